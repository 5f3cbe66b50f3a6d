"""Weights in wrappers and under shared prefixes are read; what is of no family says what it holds and lacks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from sae_auto_interp.autoencoders.detect import detect_family
from sae_auto_interp.autoencoders.families import circuit_tracer, dictionary_learning, gemma_scope, openai, saelens
from sae_auto_interp.autoencoders.files import read_json, read_yaml, shared_prefix, unwrapped
from sae_auto_interp.autoencoders.left_out import CONFIG_FIELDS, LEFT_OUT
from sae_auto_interp.errors import InputError, WeightsError
from tests.autoencoders import families, families_dictionary_learning, families_scopes, families_single_files
from tests.autoencoders.families import random_weights
from tests.support.weights import replace_file

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 123456\n"
FOUR = ("W_enc", "W_dec", "b_enc", "b_dec")


def four_tensors() -> dict[str, torch.Tensor]:
    w = random_weights()
    values = (w.w_enc.T.copy(), w.w_dec, w.b_enc, w.b_dec)
    return {name: torch.from_numpy(value) for name, value in zip(FOUR, values, strict=True)}


@pytest.mark.parametrize("name", ["sae.pt", "weights.pth", "coder.safetensors.bin", "some.safetensors", "arrays.npz"])
@pytest.mark.parametrize("is_alone", [True, False])
def test_a_lone_file_of_weights_says_what_it_holds_and_which_fields_are_missing(
    name: str, is_alone: bool, tmp_path: Path
) -> None:
    file = tmp_path / name
    if name.endswith(".safetensors"):
        save_file({key: value.contiguous() for key, value in four_tensors().items()}, file)
    elif name.endswith(".npz"):
        arrays: dict[str, Any] = {key: value.numpy() for key, value in four_tensors().items()}
        np.savez(file, **arrays)
    else:
        torch.save(four_tensors(), file)
    with pytest.raises(InputError, match="of no known family") as caught:
        detect_family(file if is_alone else tmp_path)
    said = str(caught.value)
    assert "W_enc [12, 40]" in said
    assert "b_dec [12]" in said
    assert len(CONFIG_FIELDS) == 6
    assert all(field in said for field in CONFIG_FIELDS)


def test_what_the_six_fields_say_is_enough(tmp_path: Path) -> None:
    """The way out that the message names."""
    save_file(
        {name: value.contiguous() for name, value in four_tensors().items()}, tmp_path / "sae_weights.safetensors"
    )
    values = ("standard", 12, 40, "blocks.1.hook_resid_post", True, "none")
    (tmp_path / "cfg.json").write_text(json.dumps(dict(zip(CONFIG_FIELDS, values, strict=True))))
    assert detect_family(tmp_path)[0] == "saelens"
    assert saelens.read(tmp_path).width == 40


def test_dictionary_learning_without_its_config_says_that_the_config_is_missing(tmp_path: Path) -> None:
    directory = families_dictionary_learning.auto_encoder(tmp_path, random_weights()).path
    (directory / "config.json").unlink()
    for root in (tmp_path, directory, directory / "ae.pt"):
        with pytest.raises(InputError, match=r"what is missing is the config\.json .* beside ae\.pt") as caught:
            detect_family(root)
        assert "encoder.weight [40, 12]" in str(caught.value)


@pytest.mark.parametrize("name", ["sae.pt", "x.safetensors", "y.npz"])
def test_a_pointer_is_called_one(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(POINTER)
    with pytest.raises(InputError, match="git lfs pull"):
        detect_family(tmp_path)


@pytest.mark.parametrize("family", ["openai", "saelens", "gemma_scope", "config"])
def test_a_pointer_in_place_of_a_familys_file_is_called_one(family: str, tmp_path: Path) -> None:
    w = random_weights()
    if family == "openai":
        file = families.openai_topk(tmp_path, w).path
        read: Any = lambda: openai.read(file)  # noqa: E731
    elif family == "gemma_scope":
        directory = families_scopes.gemma_scope(tmp_path, w).path
        file, read = directory / "params.npz", lambda: gemma_scope.read(directory)
    else:
        directory = families.saelens_standard(tmp_path, w).path
        file = directory / ("cfg.json" if family == "config" else "sae_weights.safetensors")
        read = lambda: saelens.read(directory)  # noqa: E731
    read()
    file.write_text(POINTER)
    with pytest.raises(WeightsError, match="git lfs pull"):
        read()


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "sae."])
def test_what_all_names_begin_with_is_taken_off(prefix: str, tmp_path: Path) -> None:
    file = families.openai_topk(tmp_path, random_weights()).path
    before = openai.read(file)
    state = torch.load(file, weights_only=True)
    renamed = {prefix + name if isinstance(value, torch.Tensor) else name: value for name, value in state.items()}
    torch.save(renamed, file.rename(tmp_path / "1.pt"))
    assert detect_family(tmp_path)[0] == "openai"
    assert torch.equal(openai.read(tmp_path / "1.pt").w_enc, before.w_enc)


@pytest.mark.parametrize("prefix", ["module.", "autoencoder.inner."])
def test_also_in_safetensors(prefix: str, tmp_path: Path) -> None:
    directory = families.saelens_jumprelu(tmp_path, random_weights()).path
    before = saelens.read(directory)
    file = directory / "sae_weights.safetensors"
    replace_file({prefix + name: value for name, value in load_file(file).items()}, file)
    assert torch.equal(saelens.read(directory).w_dec, before.w_dec)


def test_also_of_a_cross_layer_decoder(tmp_path: Path) -> None:
    file = families_single_files.cross_layer_transcoder(tmp_path, random_weights()).path
    before = circuit_tracer.read(file)
    replace_file({f"module.{name}": value for name, value in load_file(file).items()}, file)
    assert torch.equal(circuit_tracer.read(file).w_enc, before.w_enc)


@pytest.mark.parametrize("wrapper", ["model_state_dict", "state_dict", "whatever"])
def test_weights_below_a_wrapper_are_found(wrapper: str, tmp_path: Path) -> None:
    directory = families_dictionary_learning.auto_encoder(tmp_path, random_weights()).path
    before = dictionary_learning.read(directory)
    state = torch.load(directory / "ae.pt", weights_only=True)
    wrapped = {wrapper: {f"module.{name}": value for name, value in state.items()}, "epoch": 3, "optimizer": {"lr": 1}}
    torch.save(wrapped, directory / "ae.pt")
    assert detect_family(tmp_path)[0] == "dictionary_learning"
    assert torch.equal(dictionary_learning.read(directory).w_enc, before.w_enc)


def test_of_two_wrapped_ones_without_a_known_name_none_is_guessed() -> None:
    found = unwrapped({"first": {"a": torch.zeros(1)}, "second": {"a": torch.ones(1)}})
    assert set(found) == {"first", "second"}
    assert set(unwrapped({"ema": {"a": torch.zeros(1)}, "model_state_dict": {"b": torch.ones(1)}})) == {"b"}


@pytest.mark.parametrize(
    ("names", "shared"),
    [
        (["encoder.weight", "encoder.bias"], ""), (["encoder.weight", "decoder.weight"], ""), (["a.b"], ""), ([], ""),
        (["m.encoder.weight", "m.decoder.weight", "m.bias"], "m."), (["W_enc", "m.b_enc"], ""),
        (["a.b.W", "a.b.V"], "a.b."), (["a", "a.b"], ""),
    ],
)  # fmt: skip
def test_what_names_share(names: list[str], shared: str) -> None:
    assert shared_prefix(names) == shared


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("conf.yaml", yaml.safe_dump({"llm": "x", "sae": {"sae_type": "temporal"}})),
        ("config.json", json.dumps({"architecture": "temporal", "d_in": 4})),
        ("cfg.json", json.dumps({"trainer": {"dict_class": "TemporalSAE"}})),
        ("config.json", json.dumps({"sae_type": "lorsa"})),
        ("config.json", json.dumps({"architecture": "matching-pursuit"})),
    ],
)
def test_a_kind_left_out_on_purpose_answers_with_its_reason(file: str, content: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(content)
    save_file({"D": torch.zeros(4, 2), "E": torch.zeros(2, 4)}, tmp_path / "latest_ckpt.safetensors")
    for root in (tmp_path, tmp_path / "latest_ckpt.safetensors"):
        with pytest.raises(WeightsError, match=r"autoencoders are not read: ") as caught:
            detect_family(root)
        assert any(reason in str(caught.value) for reason in LEFT_OUT.values())


def test_temporal_tensors_alone_are_enough(tmp_path: Path) -> None:
    names = ("attn_layers.0.k_ctx.weight", "attn_layers.0.q_target.weight", "D", "b")
    torch.save({name: torch.zeros(2, 2) for name in names}, tmp_path / "latest_ckpt.pt")
    with pytest.raises(WeightsError, match="its codes depend on the tokens before"):
        detect_family(tmp_path)


DEEP = 100_000


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": ' + "[" * DEEP + "]" * DEEP + "}", "nested too deeply"),
        ('{"k": ' + "9" * 5000 + "}", "Exceeds the limit"),
        ("[1, 2]", "expected settings by name, found list"),
        ("", "is not valid JSON"),
        ('{"a": NaN', "is not valid JSON"),
        ("\udcff", "is not valid JSON"),
    ],
)
def test_json_of_any_kind_is_one_line(text: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "cfg.json"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(WeightsError) as caught:
        read_json(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 3000, "a: !!int x", "a: 2024-99-99", "? {a: 1}\n: 2\n", "a: !!python/object:os.system x",
        "a: *nothing", "- 1\n- 2", "a: !!float z", "a: [1, 2", "a: 1\na: 2", "a: &x [*x]\nmodel_name: m\n",
    ],
)  # fmt: skip
def test_yaml_of_any_kind_is_one_line(text: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(WeightsError) as caught:
        read_yaml(file)
    assert str(caught.value).startswith(f"{file}")
    assert "\n" not in str(caught.value)
