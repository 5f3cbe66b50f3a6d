"""Where each family's files say that they belong, in a GPT-2: the site, the target, and what is claimed."""

import json
from pathlib import Path
from typing import Any

import nnsight
import numpy as np
import pytest
import torch

from sae_auto_interp.autoencoders import load_autoencoders, load_oai_autoencoders, load_saelens_autoencoders
from sae_auto_interp.autoencoders.attach import attach, attached_coder, placement_of
from sae_auto_interp.autoencoders.families.saelens_weights import value_bias
from sae_auto_interp.autoencoders.sparse_coder import SparseCoder
from sae_auto_interp.errors import InputError, UnknownNameError, WeightsError
from sae_auto_interp.models.by_hooks import capture
from sae_auto_interp.models.placement import torch_model
from sae_auto_interp.models.sites.site import Placement, Site
from tests.autoencoders import families
from tests.autoencoders.families import Weights
from tests.support.records import D_MODEL, tiny_gpt2

TOKENS = torch.arange(10).reshape(2, 5)
ONES = torch.ones_like(TOKENS)


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> Weights:
    monkeypatch.setattr(families, "D_IN", D_MODEL)
    return families.random_weights()


def model() -> Any:
    return nnsight.NNsight(tiny_gpt2(n_layers=3))


def only_placement(attached: dict[str, Any]) -> Placement:
    (handle,) = attached.values()
    return placement_of(handle)


def only_coder(attached: dict[str, Any]) -> SparseCoder:
    (handle,) = attached.values()
    coder = attached_coder(handle)
    assert isinstance(coder, SparseCoder)
    return coder


OPENAI_SITES = {
    "resid_post_mlp": Site("transformer.h.1"),
    "resid_post_attn": Site("transformer.h.1.ln_2", "input"),
    "resid_delta_mlp": Site("transformer.h.1.mlp"),
    "resid_delta_attn": Site("transformer.h.1.attn"),
    "mlp_post_act": Site("transformer.h.1.mlp.c_proj", "input"),
}


@pytest.mark.parametrize("location", OPENAI_SITES)
@pytest.mark.parametrize("version", ["", "_v4", "_v5_32k", "_v5_128k"])
def test_openais_locations(location: str, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, and by the directories in which OpenAI publishes them."""
    monkeypatch.setattr(families, "D_IN", 4 * D_MODEL if location == "mlp_post_act" else D_MODEL)
    folder = tmp_path / f"{location}{version}" / "autoencoders"
    folder.mkdir(parents=True)
    write = families.openai_topk if "v5" in version else families.openai_relu
    write(folder, families.random_weights()).path.rename(folder / "1.pt")
    site = OPENAI_SITES[location]
    for attached in (
        load_oai_autoencoders(model(), [1], folder, location=location),
        load_oai_autoencoders(model(), [1], folder),
        load_autoencoders(model(), folder),
        load_autoencoders(model(), folder / "1.pt"),
    ):
        assert only_placement(attached).sites == (site,)
        claims = only_coder(attached).settings.claims
        assert claims.l0 == (families.K if "v5" in version else None)
        assert str(claims.hook).startswith("blocks.1.")


def transcoder(folder: Path, w: Weights, **fields: Any) -> Path:
    directory = families.sparsify(folder, w).path
    config = json.loads((directory / "cfg.json").read_text()) | {"transcode": True} | fields
    (directory / "cfg.json").write_text(json.dumps(config))
    return directory


def test_a_sparsify_transcoder_goes_from_what_a_module_reads_to_what_it_gives(weights: Weights, tmp_path: Path) -> None:
    transcoder(tmp_path, weights).rename(tmp_path / "h.1.mlp")
    placement = only_placement(load_autoencoders(model(), tmp_path))
    assert placement == Placement((Site("transformer.h.1.mlp", "input"),), Site("transformer.h.1.mlp"))


def test_sparsify_claims_are_those_of_the_run_above(weights: Weights, tmp_path: Path) -> None:
    families.sparsify(tmp_path, weights)
    run = {"model": "EleutherAI/pythia-70m", "dataset": "some/texts", "ctx_len": 2048, "sae": {"k": 5}, "lr": 1e-3}
    (tmp_path / "config.json").write_text(json.dumps(run))
    claims = only_coder(load_autoencoders(model(), tmp_path)).settings.claims
    assert (claims.model, claims.dataset, claims.ctx_len) == ("EleutherAI/pythia-70m", "some/texts", 2048)
    assert (claims.l0, claims.hook) == (5.0, "h.1")


def test_a_config_that_is_no_run_of_sparsify_claims_nothing(weights: Weights, tmp_path: Path) -> None:
    families.sparsify(tmp_path, weights)
    (tmp_path / "config.json").write_text(json.dumps({"model": "something else"}))
    assert only_coder(load_autoencoders(model(), tmp_path)).settings.claims.model is None


@pytest.mark.parametrize(
    "name", ["h/1", "h/1/seed3", "h.1/seed0", "checkpoint/h.1", "transformer.h.1", "transformer/h/1"]
)
def test_nested_directories_name_the_module_as_well(name: str, weights: Weights, tmp_path: Path) -> None:
    path = families.sparsify(tmp_path, weights).path
    target = tmp_path / "root" / name
    target.parent.mkdir(parents=True)
    path.rename(target)
    assert list(load_autoencoders(model(), tmp_path / "root")) == ["transformer.h.1"]
    assert list(load_autoencoders(model(), tmp_path / "root", [name])) == ["transformer.h.1"]
    assert list(load_autoencoders(model(), target / "sae.safetensors")) == ["transformer.h.1"]


def test_seeds_of_one_module_are_not_chosen_between(weights: Weights, tmp_path: Path) -> None:
    for seed in ("seed0", "seed1"):
        path = families.sparsify(tmp_path, weights).path
        (tmp_path / "root" / "h.1").mkdir(parents=True, exist_ok=True)
        path.rename(tmp_path / "root" / "h.1" / seed)
    for chosen in (None, ["h.1"]):
        with pytest.raises(InputError, match=r"h\.1/seed0 and h\.1/seed1 are both for transformer\.h\.1; choose one"):
            load_autoencoders(model(), tmp_path / "root", chosen)
    assert list(load_autoencoders(model(), tmp_path / "root", ["h.1/seed1"])) == ["transformer.h.1"]


def test_a_module_that_the_model_lacks_is_named(weights: Weights, tmp_path: Path) -> None:
    families.sparsify(tmp_path, weights).path.rename(tmp_path / "layers.1")
    with pytest.raises(UnknownNameError, match=r"unknown module path 'layers\.1'"):
        load_autoencoders(model(), tmp_path)


def saelens_at(folder: Path, w: Weights, hook: str, **config: Any) -> Path:
    metadata = {"hook_name": hook, **config.pop("metadata", {})}
    return families.write_saelens(folder, w, families.saelens_config(metadata=metadata, **config))


@pytest.mark.parametrize(
    ("hook", "site"),
    [
        ("blocks.1.hook_resid_pre", Site("transformer.h.1", "input")),
        ("blocks.1.hook_resid_mid", Site("transformer.h.1.ln_2", "input")),
        ("blocks.1.hook_mlp_out", Site("transformer.h.1.mlp")),
        ("blocks.1.attn.hook_z", Site("transformer.h.1.attn.c_proj", "input")),
    ],
)
def test_saelens_hooks(hook: str, site: Site, weights: Weights, tmp_path: Path) -> None:
    reshape = {"reshape_activations": "hook_z"} if hook.endswith("hook_z") else {}
    saelens_at(tmp_path, weights, hook, **reshape)
    assert only_placement(load_autoencoders(model(), tmp_path)).sites == (site,)


def test_an_unknown_hook_is_answered_with_the_nearest(weights: Weights, tmp_path: Path) -> None:
    saelens_at(tmp_path, weights, "blocks.1.hook_mlp_ou")
    with pytest.raises(UnknownNameError, match=r"did you mean 'blocks\.1\.hook_mlp_out'"):
        load_autoencoders(model(), tmp_path)


def test_a_saelens_transcoder_has_a_target(weights: Weights, tmp_path: Path) -> None:
    metadata = {"hook_name_out": "blocks.1.hook_mlp_out"}
    saelens_at(tmp_path, weights, "blocks.1.mlp.hook_in", architecture="transcoder", metadata=metadata)
    placement = only_placement(load_autoencoders(model(), tmp_path))
    assert placement == Placement((Site("transformer.h.1.mlp", "input"),), Site("transformer.h.1.mlp"))


def test_the_module_of_the_hugging_face_model_goes_first_where_it_is_named(weights: Weights, tmp_path: Path) -> None:
    metadata = {
        "hook_name_out": "blocks.1.hook_mlp_out", "hf_hook_name": "transformer.h.1.ln_2.output",
        "hf_hook_name_out": "transformer.h.1.mlp.output",
    }  # fmt: skip
    saelens_at(tmp_path, weights, "blocks.1.hook_mlp_in", architecture="transcoder", metadata=metadata)
    attached = load_autoencoders(model(), tmp_path)
    assert only_placement(attached) == Placement((Site("transformer.h.1.ln_2"),), Site("transformer.h.1.mlp"))
    assert only_coder(attached).settings.claims.hook == "blocks.1.hook_mlp_in"


CENTRED = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}


def test_coders_of_centred_models_read_centred_activations(weights: Weights, tmp_path: Path) -> None:
    """From the config, or by saying so for files that do not."""
    centred = Site("transformer.h.1", transform="centred")
    saelens_at(tmp_path, weights, "blocks.1.hook_resid_post", metadata=CENTRED)
    assert only_placement(load_autoencoders(model(), tmp_path)).sites == (centred,)
    plain = load_saelens_autoencoders(model(), None, tmp_path, processed=False)
    assert only_placement(plain).sites == (Site("transformer.h.1"),)
    families.write_saelens(tmp_path, weights, families.flat_config())
    said = load_saelens_autoencoders(model(), None, tmp_path, processed=True)
    assert only_placement(said).sites == (Site("transformer.h.1.mlp", transform="centred"),)


def test_files_that_leave_the_processing_open_are_pointed_out(
    weights: Weights, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = families.write_saelens(tmp_path, weights, families.flat_config())
    load_saelens_autoencoders(model(), None, tmp_path, processed=False)
    assert not caplog.messages
    load_autoencoders(model(), tmp_path)
    assert f"{path} does not say whether its model was processed by TransformerLens" in caplog.text
    families.write_saelens(tmp_path, weights, families.flat_config(hook_point=None))
    with pytest.raises(WeightsError, match="names no hook, so where it reads is not known"):
        load_autoencoders(model(), tmp_path)


def test_what_a_centred_coder_sees_is_what_centred_weights_would_give(weights: Weights, tmp_path: Path) -> None:
    """TransformerLens' processing, done by hand: from all that writes to the residual stream, the mean is taken."""
    saelens_at(tmp_path, weights, "blocks.1.hook_resid_post", metadata=CENTRED)
    wrapped = model()
    site = only_placement(load_autoencoders(wrapped, tmp_path)).sites[0]
    found = capture(torch_model(wrapped), {"x": site}, TOKENS, ONES)["x"]
    processed = tiny_gpt2(n_layers=3)
    with torch.no_grad():
        for name, value in processed.named_parameters():
            if name.endswith(("wte.weight", "wpe.weight", "c_proj.weight", "c_proj.bias")):
                value -= value.mean(-1, keepdim=True)
    expected = capture(processed, {"transformer.h.1": "output"}, TOKENS, ONES)["transformer.h.1"]
    assert torch.allclose(found, expected, atol=1e-5)


def with_biases(subject: Any) -> Any:
    for parameter in torch_model(subject).parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    return subject


@pytest.mark.parametrize("subtract", [True, False])
def test_value_biases_that_were_folded_away_are_taken_off(subtract: bool, weights: Weights, tmp_path: Path) -> None:
    """z of a processed model is z - b_V; b_V of a GPT-2 is the last third of c_attn's bias."""
    saelens_at(
        tmp_path, weights, "blocks.1.attn.hook_z", reshape_activations="hook_z", apply_b_dec_to_input=subtract,
        metadata={"model_from_pretrained_kwargs": {"fold_value_biases": True}},
    )  # fmt: skip
    subject = with_biases(model())
    coder = only_coder(load_autoencoders(subject, tmp_path))
    bias = torch_model(subject).get_parameter("transformer.h.1.attn.c_attn.bias")[-D_MODEL:].detach().numpy()
    z = np.random.default_rng(0).normal(size=(20, D_MODEL)).astype(np.float32)
    seen = z - bias
    codes = np.maximum(families.pre_activations(weights, seen, subtract=subtract), 0)
    out = codes @ weights.w_dec + weights.b_dec + bias
    assert np.allclose(coder(torch.tensor(z)).numpy(), codes, rtol=1e-5, atol=1e-4)
    assert np.allclose(coder.reconstruct(torch.tensor(z)).numpy(), out, rtol=1e-5, atol=1e-3)


def test_early_files_of_centred_models_lack_the_value_bias_too(weights: Weights, tmp_path: Path) -> None:
    for kwargs, is_folded in (({"center_writing_weights": True}, True), ({"center_writing_weights": False}, False)):
        config = families.flat_config(hook_point="blocks.1.attn.hook_z", model_from_pretrained_kwargs=kwargs)
        families.write_saelens(tmp_path, weights, config)
        coder = only_coder(load_autoencoders(with_biases(model()), tmp_path))
        assert torch.equal(coder.b_dec, torch.tensor(weights.b_dec)) != is_folded


def tiny(kind: str) -> tuple[Any, str]:
    """A model with grouped values or joined projections, random biases, and its attention's output projection."""
    import transformers

    if kind == "qwen2":
        config: Any = transformers.Qwen2Config(
            hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            vocab_size=64,
        )  # fmt: skip
        return with_biases(transformers.Qwen2ForCausalLM(config).eval()), "model.layers.1.self_attn.o_proj"
    config = transformers.GPTNeoXConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, vocab_size=64
    )
    return with_biases(transformers.GPTNeoXForCausalLM(config).eval()), "gpt_neox.layers.1.attention.dense"


@pytest.mark.parametrize("kind", ["qwen2", "gpt_neox"])
def test_the_value_bias_is_what_z_changes_by_without_it(kind: str) -> None:
    """Measured: the bias of the values set to zero in the last layer, everything else as it was."""
    subject, path = tiny(kind)
    site = Site(path, "input")
    bias = value_bias(subject, site)
    before = capture(subject, {"z": site}, TOKENS, ONES)["z"]
    attention = subject.get_submodule(path.rpartition(".")[0])
    with torch.no_grad():
        if kind == "qwen2":
            attention.v_proj.bias.zero_()
        else:
            attention.query_key_value.bias.view(4, 3, 4)[:, 2] = 0
    after = capture(subject, {"z": site}, TOKENS, ONES)["z"]
    assert bias.abs().min() > 0
    assert torch.allclose(before - after, bias.expand_as(before), atol=1e-5)


def test_an_attention_of_another_make_is_not_guessed() -> None:
    block = torch.nn.ModuleDict({"attn": torch.nn.ModuleDict({"o_proj": torch.nn.Linear(4, 4)})})
    with pytest.raises(InputError, match="where the values' bias of this attention is kept is not known"):
        value_bias(block, Site("attn.o_proj", "input"))


def test_saved_and_loaded_coders_stay_at_their_place(weights: Weights, tmp_path: Path) -> None:
    from sae_auto_interp.autoencoders import save_autoencoder

    saelens_at(tmp_path, weights, "blocks.1.hook_resid_post", metadata=CENTRED)
    coder = only_coder(load_autoencoders(model(), tmp_path))
    save_autoencoder(coder, tmp_path / "saved")
    again = only_coder(load_autoencoders(model(), tmp_path / "saved"))
    assert again.placement == coder.placement == Placement((Site("transformer.h.1", transform="centred"),))
    assert attach(model(), {coder.placement: again})
