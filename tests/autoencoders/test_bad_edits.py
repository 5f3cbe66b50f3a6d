"""What cannot be edited is refused with one clear error, before the model runs where that can be known."""

from collections.abc import Callable
from typing import Any

import nnsight
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.editing.coder_editor import FeatureEditor
from sae_auto_interp.autoencoders.editing.edits import EVERYWHERE, FeatureEdit, Positions, Replacement
from sae_auto_interp.autoencoders.editing.runs import edited_logits, generate_with_edits
from sae_auto_interp.autoencoders.editing.substitution_losses import substitution_losses
from sae_auto_interp.autoencoders.neurons import NeuronCoder
from sae_auto_interp.autoencoders.random_weights import random_coder
from sae_auto_interp.autoencoders.settings import CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.errors import InputError, UnknownNameError, WeightsError
from sae_auto_interp.models.sites.site import Placement, Site
from sae_auto_interp.types import FeatureId
from tests.autoencoders.hook_reference import LinearWorld
from tests.support.records import D_MODEL, VOCAB, WIDTH, make_rows, tiny_coder, tiny_gpt2

BLOCK, MLP = "transformer.h.1", "transformer.h.0.mlp"
IDS = torch.randint(1, VOCAB, (2, 5), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model() -> Any:
    wrapped = nnsight.NNsight(tiny_gpt2(n_layers=2))
    attach(wrapped, {BLOCK: tiny_coder("relu")})
    return wrapped


def add(path: str, index: int = 1, positions: Positions = EVERYWHERE) -> FeatureEdit:
    return FeatureEdit(FeatureId(path, index), "add", 1.0, positions)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Positions(3, 3), "nothing from 3 up to 3"),
        (lambda: Positions(-1, -2), "nothing from -1 up to -2"),
        (lambda: Positions(0, 0), "nothing from 0 up to 0"),
        (lambda: Positions(-2, 0), "nothing before position 0; leave stop out"),
        (lambda: Positions(1, mask=np.ones((1, 1), np.bool_)), "give a mask, or 1 to None, not both"),
        (lambda: FeatureEdit(FeatureId("h.1", 2), "add"), "h.1:2: add needs a value"),
        (lambda: FeatureEdit(FeatureId("h.1", 2), "ablate", 1.0), "ablate takes no value: it sets 0"),
        (lambda: FeatureEdit(FeatureId("h.1", 2), "clamp", float("nan")), "clamp by nan; give a finite number"),
    ],
)
def test_values_that_mean_nothing(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("edits", "error", "message"),
    [
        ([add("transformer.h.1.mpl")], UnknownNameError, "did you mean 'transformer.h.1.mlp"),
        ([add("transformer.h.0")], InputError, "no autoencoder is attached at 'transformer.h.0'"),
        ([Replacement("transformer.h.0")], InputError, "no autoencoder is attached at 'transformer.h.0'"),
        ([add(BLOCK, WIDTH)], InputError, "no feature 40 of transformer.h.1; it has 0 to 39"),
        ([add(BLOCK, 1, Positions(5))], InputError, "5 to None are beyond a sequence of 5 tokens"),
        ([add(BLOCK, 1, Positions(2, 6))], InputError, "2 to 6 are beyond a sequence of 5 tokens"),
        ([add(BLOCK, 1, Positions(-6))], InputError, "-6 is before the start of a prompt of 5 tokens"),
        (
            [add(BLOCK, 1, Positions(mask=np.ones((2, 4), np.bool_)))],
            InputError,
            r"the mask has shape \[2, 4\], the tokens \[2, 5\]",
        ),
        ([Replacement(BLOCK, np.ones(3, np.float32))], WeightsError, r"transformer\.h\.1:out has 3 dimensions, .* 16"),
    ],
)
def test_edits_that_fit_nothing(model: Any, edits: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        edited_logits(model, IDS, edits)


def test_a_prompt_is_as_short_as_its_padding_leaves_it(model: Any) -> None:
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    with pytest.raises(InputError, match="-3 is before the start of a prompt of 2 tokens"):
        edited_logits(model, IDS, [add(BLOCK, 1, Positions(-3))], attention_mask=mask)
    for wrong in (mask[:, :4], torch.tensor([[1] * 5, [0] * 5])):
        with pytest.raises(InputError, match=r"attention_mask: give 1 for tokens and 0 for padding, \[2, 5\] of them"):
            edited_logits(model, IDS, [], attention_mask=wrong)


@pytest.mark.parametrize("tokens", [IDS[0], IDS[:0]])
def test_tokens_that_are_no_rows(model: Any, tokens: Tensor) -> None:
    with pytest.raises(InputError, match="give at least one row as"):
        edited_logits(model, tokens, [])
    with pytest.raises(InputError, match="give at least one row as"):
        generate_with_edits(model, tokens, [], 2)


@pytest.mark.parametrize("transform", ["rms_norm", "layer_norm"])
def test_a_norm_before_its_gain_is_no_place_to_write(transform: Any) -> None:
    model = nnsight.NNsight(tiny_gpt2())
    site = Site("transformer.h.0.ln_2", "input", transform=transform, epsilon=1e-5)
    attach(model, {site: tiny_coder("relu")})
    message = "reconstructs transformer.h.0.ln_2:in .*no value of the model: the norm's gain comes after it"
    with pytest.raises(InputError, match=message):
        edited_logits(model, IDS, [add("h.0.ln_2")])


def test_several_places_that_are_read_are_not_written() -> None:
    model = nnsight.NNsight(tiny_gpt2())
    weights = CoderWeights(torch.ones(4, 32), torch.zeros(4), torch.ones(4, 32), torch.zeros(32))
    crosscoder = SparseCoder(weights, CoderSettings(activation="relu"))
    attach(model, {Placement((Site("transformer.h.0"), Site("transformer.h.1"))): crosscoder})
    with pytest.raises(InputError, match="reads 2 places; edits need one that it writes"):
        edited_logits(model, IDS, [add("h.1")])


def test_a_decoder_of_another_width_than_its_target() -> None:
    model = nnsight.NNsight(tiny_gpt2())
    weights = CoderWeights(torch.ones(4, D_MODEL), torch.zeros(4), torch.ones(4, 3), torch.zeros(3))
    coder = SparseCoder(weights, CoderSettings(activation="relu", subtract_b_dec=False, source="my.pt"))
    attach(model, {Placement((Site(MLP, "input"),), Site(MLP)): coder})
    with pytest.raises(WeightsError, match=r"my\.pt writes 3 dimensions, but transformer\.h\.0\.mlp:out has 16"):
        edited_logits(model, IDS, [add(MLP)])
    with pytest.raises(WeightsError, match=r"to replace transformer\.h\.0\.mlp:out has 3 dimensions, but there are 16"):
        edited_logits(model, IDS, [Replacement(MLP)])


class Unusual(nn.Module):
    """Gives one vector per row, folds rows, and has a module that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCAB, 6)
        self.pooled, self.folded, self.unused = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, use_cache: bool) -> Tensor:
        x = self.embed(input_ids)
        return self.pooled(x.mean(1))[:, None] + self.folded(x.flatten(0, 1)).view(x.shape)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("pooled", r"pooled:out has the shape \[2, 6\] in pass 1; edits for \[2, 5\] tokens cannot be put there"),
        ("folded", r"folded:out has the shape \[10, 6\]"),
        ("unused", "forward pass never runs what is to be edited: 'model.unused.output"),
    ],
)
def test_places_without_a_vector_per_token(path: str, message: str) -> None:
    model = nnsight.NNsight(Unusual())
    weights = CoderWeights(torch.ones(4, 6), torch.zeros(4), torch.ones(4, 6), torch.zeros(6))
    attach(model, {path: SparseCoder(weights, CoderSettings(activation="relu"))})
    with pytest.raises(InputError, match=message):
        edited_logits(model, IDS, [add(path)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_new_tokens": 0}, "n_new_tokens=0; give at least 1"),
        ({"attention_mask": torch.tensor([[1] * 5, [1] * 4 + [0]])}, "pad them on the left"),
        ({"rngs": [np.random.default_rng(0)]}, "1 generators for 2 prompts"),
        ({"rngs": [np.random.default_rng(0)] * 2, "temperature": 0.0}, r"temperature=0\.0; give a number above 0"),
        ({"edits": [add(BLOCK, 1, Positions(7))]}, "7 to None are beyond a sequence of 7 tokens"),
    ],
)
def test_generations_that_cannot_be(model: Any, arguments: dict[str, Any], message: str) -> None:
    defaults: dict[str, Any] = {"edits": [], "n_new_tokens": 3}
    with pytest.raises(InputError, match=message):
        generate_with_edits(model, IDS, **(defaults | arguments))


def test_a_model_that_does_not_generate() -> None:
    with pytest.raises(InputError, match="LinearWorld has no `generate`"):
        generate_with_edits(nnsight.NNsight(LinearWorld()), IDS, [], 3)


def test_an_editor_is_for_one_pass(model: Any) -> None:
    editor = FeatureEditor(model, [add(BLOCK)], IDS)
    with model.trace(input_ids=IDS):
        editor.apply(model)
    with pytest.raises(InputError, match="edits for 1 passes are used up"), model.trace(input_ids=IDS):
        editor.apply(model)


def test_activations_that_are_no_numbers(model: Any) -> None:
    model._module.transformer.h[0].mlp.c_proj.bias.data[3] = torch.nan
    with pytest.raises(InputError, match="activations hold NaN"):
        edited_logits(model, IDS, [FeatureEdit(FeatureId(BLOCK, 2), "clamp", 1.0)])


def test_what_does_not_reconstruct_replaces_nothing() -> None:
    """Its features can be edited, and a vector can be put there."""
    model = nnsight.NNsight(tiny_gpt2())
    attach(model, {"h.0.mlp.c_proj:in": NeuronCoder(4 * D_MODEL, k=3)})
    path = "h.0.mlp.c_proj"
    with pytest.raises(InputError, match=r"c_proj: neurons was not made to reconstruct"):
        edited_logits(model, IDS, [Replacement(path)])
    edited_logits(model, IDS, [add(path), Replacement(path, np.zeros(4 * D_MODEL, np.float32))])


def test_losses_of_what_does_not_reconstruct() -> None:
    model = nnsight.NNsight(tiny_gpt2())
    coder = random_coder(D_MODEL, 8, np.random.default_rng(0))
    attach(model, {"h.0": coder})
    with pytest.raises(InputError, match=r"transformer\.h\.0: random was not made to reconstruct"):
        substitution_losses(model, {"transformer.h.0": coder}, make_rows(2, 8), 2)
