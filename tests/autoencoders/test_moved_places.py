"""Where a coder reads after centring, and when `site=` sends it elsewhere."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sae_auto_interp.autoencoders import load_autoencoders, save_autoencoder
from sae_auto_interp.autoencoders.attach import attached_coder
from sae_auto_interp.autoencoders.families import saelens
from sae_auto_interp.autoencoders.sparse_coder import SparseCoder
from sae_auto_interp.errors import InputError, WeightsError
from sae_auto_interp.models.sites.site import Placement, Site
from tests.autoencoders import families
from tests.autoencoders.families import Weights
from tests.autoencoders.test_places import CENTRED, model, only_placement, saelens_at, transcoder
from tests.support.records import D_MODEL

FOLDED = {"model_from_pretrained_kwargs": {"fold_value_biases": True}}


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> Weights:
    monkeypatch.setattr(families, "D_IN", D_MODEL)
    return families.random_weights()


def moved(folder: Path, site: str) -> Placement:
    return only_placement(load_autoencoders(model(), folder, site=site))


def test_a_moved_transcoder_reads_what_the_module_reads(weights: Weights, tmp_path: Path) -> None:
    transcoder(tmp_path, weights).rename(tmp_path / "h.1.mlp")
    there = Placement((Site("transformer.h.2.mlp", "input"),), Site("transformer.h.1.mlp"))
    assert moved(tmp_path, "h.2.mlp") == there
    assert moved(tmp_path, "h.2.mlp:out").sites == (Site("transformer.h.2.mlp"),)


def test_a_saelens_transcoder_never_reads_what_it_reconstructs(weights: Weights, tmp_path: Path) -> None:
    metadata = {"hook_name_out": "blocks.1.hook_mlp_out"}
    saelens_at(tmp_path, weights, "blocks.1.mlp.hook_in", architecture="transcoder", metadata=metadata)
    assert moved(tmp_path, "h.1.mlp").sites == (Site("transformer.h.1.mlp", "input"),)


@pytest.mark.parametrize(
    ("name", "transform"),
    [
        ("h.2", "centred"),
        ("blocks.2.hook_resid_post", "centred"),
        ("h.2:out (centred)", "centred"),
        ("h.2 (none)", "none"),
    ],
)
def test_what_is_done_to_the_vectors_stays(name: str, transform: Any, weights: Weights, tmp_path: Path) -> None:
    saelens_at(tmp_path, weights, "blocks.1.hook_resid_post", metadata=CENTRED)
    assert moved(tmp_path, name).sites == (Site("transformer.h.2", transform=transform),)


def test_a_norm_takes_the_epsilon_of_its_new_place(weights: Weights, tmp_path: Path) -> None:
    saelens_at(tmp_path, weights, "blocks.1.ln2.hook_normalized")
    (before,) = only_placement(load_autoencoders(model(), tmp_path)).sites
    assert moved(tmp_path, "h.2.ln_2:in").sites == (
        Site("transformer.h.2.ln_2", "input", transform=before.transform, epsilon=before.epsilon),
    )
    with pytest.raises(InputError, match="is no norm with an epsilon"):
        moved(tmp_path, "h.2")


def test_a_coder_that_holds_a_value_bias_is_not_moved(weights: Weights, tmp_path: Path) -> None:
    saelens_at(tmp_path, weights, "blocks.1.attn.hook_z", reshape_activations="hook_z", metadata=FOLDED)
    with pytest.raises(InputError, match=r"the value bias of transformer\.h\.1\.attn\.c_proj is part of the weights"):
        moved(tmp_path, "blocks.2.attn.hook_z")


def test_that_it_holds_a_value_bias_is_kept_in_our_own_format(weights: Weights, tmp_path: Path) -> None:
    (tmp_path / "saelens").mkdir()
    saelens_at(tmp_path / "saelens", weights, "blocks.1.attn.hook_z", reshape_activations="hook_z", metadata=FOLDED)
    for folder in ("saelens", "mine", "again"):
        (attached,) = load_autoencoders(model(), tmp_path / folder).values()
        coder = attached_coder(attached)
        assert isinstance(coder, SparseCoder)
        assert coder.holds_value_bias
        save_autoencoder(coder, tmp_path / {"saelens": "mine", "mine": "again", "again": "end"}[folder])
    with pytest.raises(InputError, match="is part of the weights"):
        load_autoencoders(model(), tmp_path / "mine", site="blocks.2.attn.hook_z")
    content = json.loads((tmp_path / "mine" / "coder.json").read_text())
    del content["holds_value_bias"]  # as before it was written
    (tmp_path / "mine" / "coder.json").write_text(json.dumps(content))
    assert load_autoencoders(model(), tmp_path / "mine", site="blocks.2.attn.hook_z")


@pytest.mark.parametrize("how", ["layer_norm", "constant_norm_rescale"])
def test_a_value_bias_in_front_of_a_normalisation_is_refused(how: str, weights: Weights, tmp_path: Path) -> None:
    reading = {"reshape_activations": "hook_z", "normalize_activations": how}
    saelens_at(tmp_path, weights, "blocks.1.attn.hook_z", metadata=FOLDED, **reading)
    with pytest.raises(WeightsError, match="without the value bias and normalises them"):
        load_autoencoders(model(), tmp_path)


WRITTEN = (
    "hook_resid_pre",
    "hook_resid_mid",
    "hook_resid_post",
    "hook_attn_out",
    "hook_mlp_out",
    "attn.hook_out",
    "mlp.hook_out",
)


@pytest.mark.parametrize("hook", ["hook_embed", *(f"blocks.1.{name}" for name in WRITTEN)])
def test_what_is_written_to_the_residual_stream_is_centred(hook: str, weights: Weights, tmp_path: Path) -> None:
    saelens_at(tmp_path, weights, hook, metadata=CENTRED)
    assert only_placement(load_autoencoders(model(), tmp_path)).sites[0].transform == "centred"


@pytest.mark.parametrize("hook", ["mlp.hook_in", "hook_mlp_in", "mlp.hook_pre", "mlp.hook_post"])
def test_what_is_inside_of_a_block_is_not(hook: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(families, "D_IN", D_MODEL if hook.endswith("in") else 4 * D_MODEL)
    saelens_at(tmp_path, families.random_weights(), f"blocks.1.{hook}", metadata=CENTRED)
    assert only_placement(load_autoencoders(model(), tmp_path)).sites[0].transform == "none"


def test_a_centred_transcoder_reconstructs_what_is_centred(weights: Weights, tmp_path: Path) -> None:
    metadata = {"hook_name_out": "blocks.1.hook_mlp_out"} | CENTRED
    saelens_at(tmp_path, weights, "blocks.1.mlp.hook_in", architecture="transcoder", metadata=metadata)
    placement = only_placement(load_autoencoders(model(), tmp_path))
    assert (placement.sites[0].transform, placement.reconstructed.transform) == ("none", "centred")


def test_the_kind_of_norm_is_looked_up_where_the_blocks_are(weights: Weights, tmp_path: Path) -> None:
    """As in multimodal models, whose own configuration has no norm's epsilon."""
    import transformers

    config = transformers.LlamaConfig(
        hidden_size=D_MODEL, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, vocab_size=64
    )
    whole: Any = torch.nn.Module()
    whole.config = SimpleNamespace(model_type="many things")
    whole.language_model = transformers.LlamaModel(config)
    saelens_at(tmp_path, weights, "blocks.1.hook_resid_post", metadata=CENTRED)
    (directory,) = tmp_path.iterdir()
    placement = saelens.placement(whole, saelens.read_config(directory))
    assert placement.sites == (Site("language_model.layers.1"),)
