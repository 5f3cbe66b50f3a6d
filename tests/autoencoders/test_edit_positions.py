"""Where edits are made: nothing before the first edited position changes, and padding is not counted as prompt."""

from typing import Any

import nnsight
import numpy as np
import pytest
import torch
from torch import Tensor

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.editing.edits import FROM_LAST_PROMPT_TOKEN, FeatureEdit, Positions, Replacement
from sae_auto_interp.autoencoders.editing.runs import edited_logits
from sae_auto_interp.types import FeatureId
from tests.autoencoders.hook_reference import logits_with
from tests.support.records import D_MODEL, VOCAB, tiny_coder, tiny_gpt2

BLOCK = "transformer.h.1"
IDS = torch.randint(1, VOCAB, (3, 8), generator=torch.Generator().manual_seed(1))
MASK = torch.tensor([[1] * 8, [1] * 5 + [0] * 3, [0] * 2 + [1] * 6])
"""The second row is padded on the right, the third on the left."""
SCATTERED = np.random.default_rng(0).random((3, 8)) < 0.3


@pytest.fixture
def model() -> Any:
    wrapped = nnsight.NNsight(tiny_gpt2(n_layers=3))
    attach(wrapped, {BLOCK: tiny_coder("relu")})
    return wrapped


def columns(start: int, stop: int) -> Any:
    marks = np.zeros((3, 8), dtype=np.bool_)
    marks[:, start:stop] = True
    return marks


def last_on() -> Any:
    marks = columns(7, 8)
    marks[1, 4:] = True
    return marks


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        (Positions(), columns(0, 8)),
        (Positions(3), columns(3, 8)),
        (Positions(2, 5), columns(2, 5)),
        (FROM_LAST_PROMPT_TOKEN, last_on()),
        (Positions(mask=SCATTERED), SCATTERED),
    ],
)
def test_edits_are_made_at_the_positions_alone(model: Any, positions: Positions, expected: Any) -> None:
    """Compared with a plain hook that adds the decoder's row there."""
    row = model._module.get_submodule(BLOCK).ae.w_dec[5]
    marks = torch.from_numpy(expected)[..., None]
    edits = [FeatureEdit(FeatureId(BLOCK, 5), "add", 4.0, positions)]
    found = edited_logits(model, IDS, edits, attention_mask=MASK)
    by_hand = logits_with(
        model._module, IDS, BLOCK, lambda x: torch.where(marks, x + 4.0 * row, x), attention_mask=MASK
    )
    torch.testing.assert_close(found, by_hand)
    clean = model._module(input_ids=IDS, attention_mask=MASK).logits
    for r in range(3):
        first = int(np.flatnonzero(expected[r])[0]) if expected[r].any() else 8
        assert torch.equal(found[r, :first], clean[r, :first])
        assert not torch.allclose(found[r, first:], clean[r, first:]) or first == 8


def test_each_edit_has_its_own_positions(model: Any) -> None:
    vector = np.ones(D_MODEL, dtype=np.float32)
    row = model._module.get_submodule(BLOCK).ae.w_dec[5]

    def by_hand(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, 2:4] = 1.0
        x[:, 3:] += 4.0 * row
        return x

    edits = [FeatureEdit(FeatureId("h.1", 5), "add", 4.0, Positions(3)), Replacement(BLOCK, vector, Positions(2, 4))]
    torch.testing.assert_close(edited_logits(model, IDS, edits), logits_with(model._module, IDS, BLOCK, by_hand))


def test_negative_positions_count_back_from_the_end_of_each_prompt(model: Any) -> None:
    def of(positions: Positions) -> Tensor:
        edits = [FeatureEdit(FeatureId(BLOCK, 5), "add", 4.0, positions)]
        return edited_logits(model, IDS, edits, attention_mask=MASK)

    marks = np.zeros((3, 8), dtype=np.bool_)
    marks[[0, 0, 1, 1, 2, 2], [5, 6, 2, 3, 5, 6]] = True
    assert torch.equal(of(Positions(-3, -1)), of(Positions(mask=marks)))
