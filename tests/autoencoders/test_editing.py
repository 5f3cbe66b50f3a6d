"""Edits of features arrive at the logits as a calculation by hand, or with plain hooks and dense codes, says."""

import itertools
from typing import Any

import nnsight
import numpy as np
import pytest
import torch
from torch import Tensor

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.editing.edits import EVERYWHERE, Edit, FeatureEdit, Positions, Replacement
from sae_auto_interp.autoencoders.editing.runs import edited_logits
from sae_auto_interp.models.by_nnsight import plain_trace
from sae_auto_interp.models.sites.site import Placement, Site
from sae_auto_interp.types import FeatureId
from tests.autoencoders.hook_reference import (
    LinearWorld,
    changed,
    codes,
    logits_with,
    reconstruction,
    set_to,
    whole_coder,
)
from tests.support.records import D_MODEL, VOCAB, tiny_coder, tiny_gpt2

IDS = torch.randint(1, VOCAB, (2, 7), generator=torch.Generator().manual_seed(1))
BLOCK, MLP, ATTENTION = "transformer.h.1", "transformer.h.0.mlp", "transformer.h.1.attn"


def edit(path: str, index: int, kind: Any, value: float | None = None, where: Positions = EVERYWHERE) -> FeatureEdit:
    return FeatureEdit(FeatureId(path, index), kind, value, where)


@pytest.fixture
def model() -> Any:
    return nnsight.NNsight(tiny_gpt2(n_layers=3))


def clean(model: Any, **inputs: Any) -> Tensor:
    with torch.no_grad():
        return model._module(input_ids=IDS, **inputs).logits


# ------------------------------------------------------------------ closed forms


@pytest.fixture
def linear() -> tuple[Any, Any, Tensor]:
    """A linear model of whole numbers, its coder at `embed`, and what a unit of each feature does to the logits."""
    world, coder = LinearWorld(), whole_coder()
    model = nnsight.NNsight(world)
    attach(model, {"embed": coder})
    return model, coder, coder.w_dec @ world.block.weight.T @ world.head.weight.T


LINEAR_IDS = torch.tensor([[0, 3, 5, 9], [10, 2, 1, 7]])


@pytest.mark.parametrize(
    ("kind", "value", "new"),
    [
        ("add", 3.0, lambda v: v + 3),
        ("add", -2.0, lambda v: v - 2),
        ("clamp", 4.0, lambda v: 0 * v + 4),
        ("scale", 3.0, lambda v: 3 * v),
        ("scale", 1.0, lambda v: v),
        ("ablate", None, lambda v: 0 * v),
    ],
)
def test_an_edit_arrives_as_the_decoder_row_times_the_change(
    kind: Any, value: float | None, new: Any, linear: tuple[Any, Any, Tensor]
) -> None:
    model, coder, effect = linear
    world = model._module
    before = world(LINEAR_IDS, None, False)
    active = codes(coder, world.embed(LINEAR_IDS))
    assert (active > 0).any(0).any(0).sum() > 3
    once = plain_trace(model)
    for index in range(coder.width):
        found = edited_logits(once, LINEAR_IDS, [edit("embed", index, kind, value)])
        change = new(active[..., index]) - active[..., index]
        assert torch.equal(found, before + change[..., None] * effect[index])


def test_edits_of_one_feature_are_done_one_after_the_other(linear: tuple[Any, Any, Tensor]) -> None:
    model, coder, effect = linear
    before = model._module(LINEAR_IDS, None, False)
    v = codes(coder, model._module.embed(LINEAR_IDS))[..., 2]
    two = [edit("embed", 2, "add", 2.0), edit("embed", 2, "scale", 3.0)]
    for order, new in ((two, 3 * (v + 2)), (two[::-1], 3 * v + 2)):
        assert torch.equal(edited_logits(model, LINEAR_IDS, order), before + (new - v)[..., None] * effect[2])
    several = [edit("embed", 2, "add", 2.0), edit("embed", 5, "clamp", 1.0)]
    fifth = codes(coder, model._module.embed(LINEAR_IDS))[..., 5]
    expected = before + 2 * effect[2] + (1 - fifth)[..., None] * effect[5]
    assert torch.equal(edited_logits(model, LINEAR_IDS, several), expected)


def test_twice_the_strength_has_twice_the_effect_on_a_linear_path(linear: tuple[Any, Any, Tensor]) -> None:
    model = linear[0]
    base, once, twice = (edited_logits(model, LINEAR_IDS, [edit("embed", 1, "add", s)]) for s in (0.0, 0.5, 1.0))
    assert torch.equal(twice - base, 2 * (once - base))
    assert not torch.equal(once, base)


# ------------------------------------------------------------------ what changes nothing


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_with_the_error_term_kept_an_edit_of_nothing_is_bit_equal(dtype: torch.dtype) -> None:
    model = nnsight.NNsight(tiny_gpt2(n_layers=3).to(dtype))
    coder = tiny_coder("jumprelu")
    attach(model, {BLOCK: coder})
    before = clean(model)
    caught: list[Tensor] = []
    logits_with(model._module, IDS, BLOCK, lambda x: caught.append(x) or x)
    silent = int((codes(coder, caught[0]) == 0).all(0).all(0).nonzero()[0])
    nothing = ([], [edit(BLOCK, 3, "scale", 1.0)], [edit(BLOCK, 3, "add", 0.0)], [edit(BLOCK, silent, "ablate")])
    once = plain_trace(model)
    for edits in (*nothing, [edit(BLOCK, silent, "clamp", 0.0)], [edit(BLOCK, silent, "scale", 7.0)]):
        found = edited_logits(once, IDS, edits)
        assert found.dtype == dtype
        assert torch.equal(found, before)
    assert not torch.equal(edited_logits(model, IDS, [edit(BLOCK, silent, "clamp", 1.0)]), before)


def test_ablating_is_clamping_to_zero(model: Any) -> None:
    attach(model, {BLOCK: tiny_coder("relu")})
    once = plain_trace(model)
    for index in range(4):
        ablated = edited_logits(once, IDS, [edit(BLOCK, index, "ablate")])
        assert torch.equal(ablated, edited_logits(once, IDS, [edit(BLOCK, index, "clamp", 0.0)]))
        assert torch.equal(ablated, edited_logits(once, IDS, [edit(BLOCK, index, "scale", 0.0)]))


def test_the_model_and_its_stored_edits_are_left_as_they_were(model: Any) -> None:
    attach(model, {BLOCK: tiny_coder("relu")})
    before = clean(model)
    with model.edit(inplace=True):
        model.transformer.h[0].output[:] = 0
    model._module.train()
    assert torch.equal(edited_logits(model, IDS, []), before), "neither dropout nor a stored edit"
    edited_logits(model, IDS, [edit(BLOCK, 1, "clamp", 9.0)])
    assert model._module.training
    model._module.eval()
    assert torch.equal(clean(model), before)


# ------------------------------------------------------------------ against plain hooks


@pytest.mark.parametrize("activation", ["relu", "jumprelu", "topk"])
@pytest.mark.parametrize(
    ("path", "side"), [(BLOCK, "output"), (BLOCK, "input"), (MLP, "output"), (MLP, "input"), (ATTENTION, "output")]
)
def test_clamping_and_replacing_equal_plain_hooks(model: Any, path: str, side: Any, activation: Any) -> None:
    coder = tiny_coder(activation, side=side)
    attach(model, {path: coder})
    once = plain_trace(model)
    expected = logits_with(model._module, IDS, path, set_to(coder, 7, 3.0), side)
    torch.testing.assert_close(edited_logits(once, IDS, [edit(path, 7, "clamp", 3.0)]), expected)
    expected = logits_with(model._module, IDS, path, reconstruction(coder), side)
    torch.testing.assert_close(edited_logits(once, IDS, [Replacement(path)]), expected)

    def both(x: Tensor) -> Tensor:
        return reconstruction(coder)(x) + (3.0 - codes(coder, x)[..., 7, None]) * coder.w_dec[7]

    expected = logits_with(model._module, IDS, path, both, side)
    torch.testing.assert_close(edited_logits(once, IDS, [edit(path, 7, "clamp", 3.0), Replacement(path)]), expected)
    assert not torch.allclose(expected, clean(model))


def test_hidden_states_handed_over_by_name_are_edited() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=D_MODEL, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nnsight.NNsight(LlamaForCausalLM(config).eval())
    path, coder = "model.layers.1.self_attn", tiny_coder("relu", side="input")
    attach(model, {path: coder})
    expected = logits_with(model._module, IDS, path, set_to(coder, 2, 5.0), "input")
    found = edited_logits(model, IDS, [edit("layers.1.self_attn", 2, "clamp", 5.0)])
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, clean(model))


def test_what_is_normalised_before_encoding_is_written_in_the_scale_of_the_input(model: Any) -> None:
    coder = tiny_coder("topk", normalisation="layer_norm")
    attach(model, {BLOCK: coder})

    def by_hand(x: Tensor) -> Tensor:
        deviation = np.asarray(x).std(axis=-1, ddof=1, keepdims=True)
        return x + 2.5 * torch.from_numpy(deviation) * coder.w_dec[4]

    expected = logits_with(model._module, IDS, BLOCK, by_hand)
    torch.testing.assert_close(edited_logits(model, IDS, [edit(BLOCK, 4, "add", 2.5)]), expected)


def test_of_a_centred_site_the_mean_stays(model: Any) -> None:
    coder = tiny_coder("relu")
    attach(model, {Site(BLOCK, transform="centred"): coder})

    def mean(x: Tensor) -> Tensor:
        return x.mean(-1, keepdim=True)

    expected = logits_with(model._module, IDS, BLOCK, lambda x: reconstruction(coder)(x - mean(x)) + mean(x))
    torch.testing.assert_close(edited_logits(model, IDS, [Replacement(BLOCK)]), expected)
    expected = logits_with(model._module, IDS, BLOCK, lambda x: set_to(coder, 7, 3.0)(x - mean(x)) + mean(x))
    torch.testing.assert_close(edited_logits(model, IDS, [edit(BLOCK, 7, "clamp", 3.0)]), expected)


def test_a_vector_replaces_what_the_autoencoder_sees(model: Any) -> None:
    attach(model, {BLOCK: tiny_coder("relu")})
    vector = np.linspace(-1, 1, D_MODEL, dtype=np.float32)
    found = edited_logits(model, IDS, [Replacement(BLOCK, vector)])
    expected = logits_with(model._module, IDS, BLOCK, lambda x: torch.from_numpy(vector).expand_as(x))
    torch.testing.assert_close(found, expected)


# ------------------------------------------------------------------ transcoders, several autoencoders


@pytest.mark.parametrize("source", ["mlp input", "before the norm's gain"])
def test_a_transcoder_is_edited_at_its_target(model: Any, source: str) -> None:
    coder = tiny_coder("relu", subtract_b_dec=False)
    target = Site(MLP)
    if source == "mlp input":
        site = Site(MLP, "input")
    else:
        site = Site("transformer.h.0.ln_2", "input", transform="layer_norm", epsilon=1e-5)
    attach(model, {Placement((site,), target): coder})
    read: list[Tensor] = []

    def normalised(x: Tensor) -> Tensor:
        return torch.nn.functional.layer_norm(x, x.shape[-1:], eps=1e-5) if site.transform == "layer_norm" else x

    def keep(x: Tensor) -> Tensor:
        read.append(normalised(x))
        return x

    def clamped(y: Tensor) -> Tensor:
        return y + (3.0 - codes(coder, read[-1])[..., 7, None]) * coder.w_dec[7]

    changes: list[tuple[Any, list[Edit]]] = [
        (clamped, [edit(site.module_path, 7, "clamp", 3.0)]),
        (lambda y: reconstruction(coder)(read[-1]), [Replacement(site.module_path)]),
    ]
    for change, edits in changes:
        with changed(model._module.get_submodule(site.module_path), keep, "input"):
            expected = logits_with(model._module, IDS, MLP, change)
        torch.testing.assert_close(edited_logits(model, IDS, edits), expected)
        assert not torch.allclose(expected, clean(model))


def test_several_autoencoders_at_once_in_any_order(model: Any) -> None:
    coders = {BLOCK: tiny_coder("relu"), MLP: tiny_coder("topk", seed=1), ATTENTION: tiny_coder("jumprelu", seed=2)}
    attach(model, coders)
    block, attention = (model._module.get_submodule(path) for path in (BLOCK, ATTENTION))
    with changed(block, set_to(coders[BLOCK], 1, 4.0)), changed(attention, set_to(coders[ATTENTION], 2, 3.0)):
        expected = logits_with(model._module, IDS, MLP, reconstruction(coders[MLP]))
    edits = [edit(BLOCK, 1, "clamp", 4.0), Replacement(MLP), edit(ATTENTION, 2, "clamp", 3.0)]
    once = plain_trace(model)
    for order in itertools.permutations(edits):
        torch.testing.assert_close(edited_logits(once, IDS, order), expected)


def test_a_model_may_be_wrapped_once_for_many_calls_or_be_plain(model: Any) -> None:
    attach(model, {BLOCK: tiny_coder("relu")})
    edits = [edit(BLOCK, 1, "clamp", 4.0)]
    once = plain_trace(model)
    for each in (model, model._module, once, once):
        assert torch.equal(edited_logits(each, IDS, edits), edited_logits(model, IDS, edits))


def test_a_model_in_bfloat16_is_edited_with_a_coder_in_float32() -> None:
    model = nnsight.NNsight(tiny_gpt2(n_layers=3).to(torch.bfloat16))
    coder = tiny_coder("topk")
    attach(model, {BLOCK: coder})

    def by_hand(x: Tensor) -> Tensor:
        return x + ((3.0 - codes(coder, x.float())[..., 7, None]) * coder.w_dec[7]).to(torch.bfloat16)

    expected = logits_with(model._module, IDS, BLOCK, by_hand)
    assert torch.equal(edited_logits(model, IDS, [edit(BLOCK, 7, "clamp", 3.0)]), expected)
