"""Subject models: loaded from a directory, named in manifests, told apart by their weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.cache.reader import CacheReader
from sae_auto_interp.errors import InputError
from sae_auto_interp.features import FeatureCache, FeatureDataset
from sae_auto_interp.models import identity, subject
from sae_auto_interp.models.by_hooks import capture
from sae_auto_interp.models.hub import HubRef, model_address, parse_hub_ref, pinned
from sae_auto_interp.models.identity import (
    check_token_ids,
    model_name,
    model_settings,
    model_source,
    sampled_sha256,
    weights_sha256,
)
from sae_auto_interp.models.sites.site import Side
from sae_auto_interp.models.subject import load_subject_model
from sae_auto_interp.types import TokenRows
from tests.support.hub_server import COMMIT, hub_server, point_at
from tests.support.records import byte_level_tokenizer, dense_entries, read_entries, tiny_coders, tiny_gpt2

TEXTS = ["the cat sat on the mat with the hat", "naïve café 🎉 東京"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import GPT2Config, GPT2LMHeadModel

    path = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = byte_level_tokenizer(TEXTS, vocab_size=270)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_positions=32, n_embd=16, n_layer=2, n_head=2))
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_a_loaded_model_is_cached_as_a_dense_encode_with_its_text(directory: Path, tmp_path: Path) -> None:
    model = load_subject_model(str(directory), device="cpu")
    assert not model._module.training
    tokens = np.array([model.tokenizer.encode(text, add_special_tokens=False)[:8] for text in TEXTS])
    coders = tiny_coders()
    cache = FeatureCache(model, attach(model, coders))
    cache.run(tokens=tokens)
    cache.save_splits(2, tmp_path)
    plain = type(model._module).from_pretrained(directory)
    rows = TokenRows.from_ids(tokens)
    for module, expected in dense_entries(plain.eval(), tiny_coders(), rows).items():
        found = sorted(read_entries(CacheReader(tmp_path / module)))
        assert [e[:3] for e in found] == [e[:3] for e in sorted(expected)]
        np.testing.assert_allclose([e[3] for e in found], [e[3] for e in sorted(expected)], rtol=2e-3, atol=1e-4)
    vocabulary = FeatureDataset(tmp_path).vocabulary
    assert vocabulary is not None
    assert ["".join(vocabulary.str_tokens(row)) for row in rows.tokens] == [model.tokenizer.decode(r) for r in tokens]
    assert CacheReader(tmp_path / "transformer.h.0").manifest.model == str(directory)


def test_what_is_no_model_is_refused_without_asking_the_hub(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no directory .*/missing"):
        load_subject_model(str(tmp_path / "missing"))
    for ref in ("./missing", "~/no such model", "some/deep/path"):
        with pytest.raises(InputError, match="there is no directory"):
            load_subject_model(ref)
    with pytest.raises(InputError, match=r"holds no config\.json"):
        load_subject_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_subject_model(str(tmp_path))


def test_a_home_directory_is_found(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(directory.parent))
    assert load_subject_model("~/tiny", device="cpu")._module.config.n_embd == 16


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_the_forward_pass_runs_in_the_dtype_asked_for(directory: Path, dtype: str, expected: torch.dtype) -> None:
    model = load_subject_model(str(directory), "cpu", dtype)._module
    assert {parameter.dtype for parameter in model.parameters()} == {expected}
    tokens = torch.tensor([[1, 2, 3]])
    found = capture(model, {"transformer.h.1": "output"}, tokens, torch.ones_like(tokens))["transformer.h.1"]
    assert found.dtype == expected
    whole = load_subject_model(str(directory), "cpu")._module
    with torch.inference_mode():
        hidden = whole.to(expected)(input_ids=tokens, output_hidden_states=True).hidden_states[1]
    first = capture(model, {"transformer.h.0": "output"}, tokens, torch.ones_like(tokens))["transformer.h.0"]
    assert torch.equal(first, hidden)


def test_auto_is_the_dtype_of_the_checkpoint(directory: Path, tmp_path: Path) -> None:
    model = load_subject_model(str(directory), "cpu", "bfloat16")
    model._module.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    for dtype, expected in (("auto", torch.bfloat16), ("float32", torch.float32)):
        loaded = load_subject_model(str(tmp_path), "cpu", dtype)._module
        assert {parameter.dtype for parameter in loaded.parameters()} == {expected}


def test_another_dtype_than_asked_for_is_never_passed_off(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = subject.load_language_model
    monkeypatch.setattr(
        subject, "load_language_model", lambda *args, **kwargs: load(*args, **kwargs | {"dtype": "auto"})
    )
    with pytest.raises(InputError, match="could not be loaded in float16, only in float32"):
        load_subject_model(str(directory), "cpu", "float16")


@pytest.mark.parametrize("device", ["auto", "balanced", "cpu", {"": "cpu"}, {"transformer": "cpu", "lm_head": "cpu"}])
def test_a_model_is_the_same_wherever_it_is_placed(directory: Path, device: str | dict[str, str | int]) -> None:
    expected = load_subject_model(str(directory), "cpu")._module
    assert weights_sha256(load_subject_model(str(directory), device)._module) == weights_sha256(expected)


def test_a_model_that_is_partly_on_disk_is_cached_as_one_in_memory(directory: Path) -> None:
    sites: dict[str, Side] = {"transformer.h.0": "output", "transformer.h.1": "output"}
    tokens = torch.tensor([[1, 2, 3]])
    places = {
        "transformer.h.1": "disk", "transformer.wte": "cpu", "transformer.wpe": "cpu", "transformer.h.0": "disk",
        "transformer.ln_f": "cpu", "lm_head": "cpu",
    }  # fmt: skip
    there, here = (load_subject_model(str(directory), device)._module for device in (places, "cpu"))
    assert there.transformer.h[1].ln_1.weight.is_meta
    assert sampled_sha256(there) == sampled_sha256(here)
    found, expected = (capture(model, sites, tokens, torch.ones_like(tokens)) for model in (there, here))
    assert all(torch.equal(found[path], expected[path]) for path in sites)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "there is no device 'gpu'; give one of auto, balanced, balanced_low_0, sequential, cpu, cuda"),
        ("cuda:99", "there is no device 'cuda:99' here"),
        ("meta", "there is no device 'meta' here"),
        ({"": 99}, "there is no device 99 here"),
        ({"transformer": "cpu", "lm_head": "dis"}, "there is no device 'dis';"),
        ({}, "no module is on a device"),
        ({"transformer": "disk", "lm_head": "disk"}, "no module is on a device"),
        (
            {"transformer.wte": "cpu", "transformer.wpe": "disk"},
            "cannot be loaded: The device_map provided",
        ),
    ],
)
def test_devices_that_are_not_there_are_refused(
    directory: Path, device: str | dict[str, str | int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_subject_model(str(directory), device)


def test_unknown_dtypes_are_refused(directory: Path) -> None:
    with pytest.raises(InputError, match="no dtype 'fp16'; give one of auto, float32, bfloat16, float16"):
        load_subject_model(str(directory), "cpu", "fp16")


def test_models_are_told_apart_by_any_trained_weight() -> None:
    one, same, other = tiny_gpt2(0), tiny_gpt2(0), tiny_gpt2(1)
    for digest in (weights_sha256, sampled_sha256):
        assert digest(one) == digest(same) != digest(other)
    for name, parameter in same.named_parameters():
        with torch.no_grad():
            before = parameter.clone()
            parameter.view(-1)[-1] += 1e-3
            assert sampled_sha256(same) != sampled_sha256(one), name
            parameter.copy_(before)
    assert sampled_sha256(same.half()) != sampled_sha256(one)
    one.register_buffer("another", torch.zeros(1))
    assert weights_sha256(one) != weights_sha256(tiny_gpt2(0))


def test_large_weights_are_told_apart_by_any_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20 bytes in a part: rows of 12 bytes one by one, numbers by fives, and the bias not divided."""
    monkeypatch.setattr(identity, "PART_BYTES", 20)
    module = torch.nn.Linear(3, 5)
    module.register_buffer("numbers", torch.arange(23.0))
    plain = weights_sha256(module)
    for n_threads in (1, 8):
        monkeypatch.setattr(identity, "N_THREADS", n_threads)
        assert weights_sha256(module) == plain
    seen = {plain}
    for value in module.state_dict().values():
        flat = value.view(-1)
        for i in range(len(flat)):
            before = flat[i].clone()
            flat[i] += 1
            seen.add(weights_sha256(module))
            flat[i] = before
    assert len(seen) == 1 + 15 + 5 + 23
    assert weights_sha256(module) == plain
    turned = torch.nn.Linear(3, 5)
    turned.load_state_dict({name: module.state_dict()[name] for name in ("weight", "bias")})
    turned.weight.data = module.weight.detach().T.contiguous().T
    turned.register_buffer("numbers", torch.arange(46.0)[::2] / 2)
    assert weights_sha256(turned) == plain, "how a weight lies in memory makes no difference"


def test_names_and_settings() -> None:
    model = tiny_gpt2()
    assert model_name(model) == "GPT2LMHeadModel"
    settings = model_settings(model)
    assert settings["n_embd"] == 16
    model.config._name_or_path = "here/tiny"
    assert model_name(model) == "here/tiny"
    assert model_settings(model) == settings
    assert (model_name(torch.nn.Identity()), model_settings(torch.nn.Identity())) == ("Identity", {})


def test_ids_without_an_embedding_are_refused() -> None:
    model = tiny_gpt2()
    check_token_ids(model, np.array([[0, 49]]))
    with pytest.raises(InputError, match="ids from 3 to 50; the model knows 0 to 49"):
        check_token_ids(model, np.array([[3, 50]]))
    check_token_ids(torch.nn.Identity(), np.array([[0, 10**9]]))
    with pytest.raises(InputError, match="ids from -1 to 5; must not be negative"):
        check_token_ids(torch.nn.Identity(), np.array([[-1, 5]]))


def test_a_subject_model_comes_from_the_hub_at_a_revision(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "served" / "someone").mkdir(parents=True)
    (tmp_path / "served" / "someone" / "tiny").symlink_to(directory)
    with hub_server(tmp_path / "served", tmp_path / "cache") as hub:
        model = load_subject_model("hf:someone/tiny@v1", device="cpu")
        assert "someone/tiny/model.safetensors" in hub.fetched
        assert model_source(load_subject_model("someone/tiny", device="cpu")._module) == f"hf:someone/tiny@{COMMIT}"
        with pytest.raises(InputError, match="has no branch, tag or commit 'v9'"):
            load_subject_model("hf:someone/tiny@v9", device="cpu")
        with pytest.raises(InputError, match="names a directory within a repository"):
            load_subject_model("hf:someone/tiny/sub", device="cpu")
    local = load_subject_model(str(directory), device="cpu")
    assert (model_source(model._module), model_source(local._module)) == (f"hf:someone/tiny@{COMMIT}", "")
    assert model_settings(model._module) == model_settings(local._module), "no other fingerprint than a local copy"
    assert sampled_sha256(model._module) == sampled_sha256(local._module)
    assert model.tokenizer(TEXTS[0]).input_ids == local.tokenizer(TEXTS[0]).input_ids


def test_what_a_plain_hub_id_is(directory: Path) -> None:
    """Old ones have no owner. A directory is no id, whatever it is called."""
    assert model_address("someone/tiny") == "hf:someone/tiny@main"
    assert model_address("gpt2") == "hf:gpt2@main"
    assert parse_hub_ref(f"hf:gpt2@{COMMIT}") == HubRef("gpt2", "", COMMIT)
    for local in (str(directory), "./tiny", "~/tiny", "a/b/c", "hf:someone/tiny@v1"):
        assert model_address(local) == local


def test_without_a_connection_what_was_fetched_goes_on_with_a_warning(
    directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "served" / "someone").mkdir(parents=True)
    (tmp_path / "served" / "someone" / "tiny").symlink_to(directory)
    with hub_server(tmp_path / "served", tmp_path / "cache"):
        HfApi().hf_hub_download("someone/tiny", "config.json")
    point_at(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
    assert pinned(HubRef("someone/tiny")).revision == COMMIT
    assert f"going on with commit {COMMIT}" in caplog.text
    with pytest.raises(InputError, match="gave no answer"):
        pinned(HubRef("someone/other"))
