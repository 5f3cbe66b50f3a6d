"""The exact top k by maxima of pieces: what torch.topk gives of whole rows, ties, zeros and odd widths included."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sae_auto_interp.autoencoders import selection
from sae_auto_interp.autoencoders.encoder import Scratch
from sae_auto_interp.autoencoders.selection import Selected, select_above, select_topk

CPU = torch.device("cpu")


def block_of(values: torch.Tensor) -> torch.Tensor:
    n, width = values.shape
    block = Scratch().block(n, width, CPU)
    block[:, :width] = values
    return block


def dense(found: Selected, n: int, width: int) -> torch.Tensor:
    result = torch.zeros(n, width)
    result[found.rows, found.columns] = found.values
    return result


def expected_topk(values: torch.Tensor, k: int) -> torch.Tensor:
    top = values.topk(k, dim=1)
    return torch.zeros_like(values).scatter_(1, top.indices, top.values.clamp(min=0))


def check(values: torch.Tensor, k: int) -> None:
    found = select_topk(block_of(values), values.shape[1], k)
    assert torch.equal(dense(found, *values.shape), expected_topk(values, k))
    assert (found.values > 0).all()
    assert torch.equal(found.rows, found.rows.sort().values), "in order of row"
    assert len(torch.unique(found.rows * values.shape[1] + found.columns)) == len(found.rows), "each entry once"


@given(
    st.integers(1, 7),
    st.integers(1, 900),
    st.integers(1, 12),
    st.sampled_from([1, 3, 20, 10_000]),
    st.sampled_from([-3.0, -0.5, 0.0]),
    st.integers(0, 1000),
)
def test_as_torch_topk_also_with_many_equal_values(
    n: int, width: int, k: int, levels: int, shift: float, seed: int
) -> None:
    """Few levels make ties at every place; a shift leaves rows with fewer than k entries above zero, or none."""
    generator = torch.Generator().manual_seed(seed)
    values = (torch.randn(n, width, generator=generator) * levels).round() / levels + shift
    check(values, min(k, width))


@pytest.mark.parametrize("width", [4096, 24_576, 32_768, 32_771])
@pytest.mark.parametrize("k", [1, 32, 64, 200])
def test_at_the_widths_of_real_autoencoders(width: int, k: int) -> None:
    values = torch.randn(5, width, generator=torch.Generator().manual_seed(width + k))
    values[1, 100:140] = 9.5  # tied at the top, and within one piece
    values[2, :] = values[2, 0].abs()  # all equal
    values[3, :] = -1
    values[3, 17] = 1e-42
    values[4, width - k :] = torch.arange(k) + 10.0  # all of it at the end
    check(values, k)


def test_the_usual_row_is_not_sorted_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> Selected:
        raise AssertionError("sorted whole rows")

    monkeypatch.setattr(selection, "_topk_of_whole_rows", refused)
    check(torch.randn(64, 8192, generator=torch.Generator().manual_seed(0)), 32)
    check(torch.randn(64, 8192, generator=torch.Generator().manual_seed(0)) - 4.5, 32)
    with pytest.raises(AssertionError, match="whole rows"):
        check(torch.ones(64, 8192), 32)


def test_a_result_for_a_device_has_a_size_that_is_known_beforehand() -> None:
    """Its zeros stand for no entry."""
    values = torch.randn(6, 300, generator=torch.Generator().manual_seed(0)) - 2.5
    found = selection._topk_without_waiting(values, 20)
    assert len(found.rows) == len(found.columns) == len(found.values) == 6 * 20
    assert torch.equal(dense(found, 6, 300), expected_topk(values, 20))
    assert torch.equal(found.rows, torch.arange(6).repeat_interleave(20))


@given(st.integers(0, 6), st.integers(1, 200), st.integers(0, 100))
def test_entries_above_a_threshold(n: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values, threshold = torch.randn(n, width, generator=generator), torch.randn(width, generator=generator)
    values[:, 0] = threshold[0]  # at the threshold is not above it
    block = block_of(values)[:, :width]
    for least in (threshold, 0.0):
        found = select_above(block, least, torch.empty(n, width, dtype=torch.bool))
        assert torch.equal(dense(found, n, width), torch.where(values > least, values, 0.0))
        assert torch.equal(found.rows, found.rows.sort().values)
