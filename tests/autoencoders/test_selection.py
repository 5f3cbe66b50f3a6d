"""The exact top k out of tiles: what torch.topk gives of whole rows; ties, zeros and odd widths included."""

from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from sae_auto_interp.autoencoders.encoding import cpu_selection, gpu_selection, scan, tiles
from sae_auto_interp.autoencoders.encoding.cpu_selection import select_above, select_topk
from sae_auto_interp.autoencoders.encoding.likely_bounds import LikelyBounds
from sae_auto_interp.autoencoders.encoding.scan import Entries
from sae_auto_interp.autoencoders.encoding.tiles import PreActivations, Tiles, tiles_for
from sae_auto_interp.autoencoders.encoding.workers import Room

USUAL = Tiles(rows=8, columns=4160, piece=64)


@dataclass(frozen=True)
class Given:
    """Pre-activations that are known beforehand."""

    values: torch.Tensor

    @property
    def shape(self) -> tuple[int, int]:
        return self.values.shape[0], self.values.shape[1]

    def compute(self, first: int, last: int, out: torch.Tensor) -> None:
        out.copy_(self.values[:, first:last])

    def norms(self) -> np.ndarray:
        """Of activations, not of these numbers: any that are as large will do."""
        return self.values.abs().amax(1).clamp(max=10).numpy()

    def of_rows(self, rows: slice | np.ndarray) -> "Given":
        return Given(self.values[rows])


class OfOneNorm(Given):
    def norms(self) -> np.ndarray:
        return np.ones(len(self.values), np.float32)


def dense(found: Entries, n: int, width: int) -> torch.Tensor:
    result = torch.zeros(n, width)
    result[torch.from_numpy(found.rows), torch.from_numpy(found.columns)] = torch.from_numpy(found.values)
    return result


def expected_topk(values: torch.Tensor, k: int) -> torch.Tensor:
    top = values.topk(k, dim=1)
    return torch.zeros_like(values).scatter_(1, top.indices, top.values.clamp(min=0))


def check(values: torch.Tensor, k: int, chosen: Tiles | None = None, room: Room | None = None) -> None:
    n, width = values.shape
    found = select_topk(Given(values), k, chosen or tiles_for(width, k), room or Room())
    assert torch.equal(dense(found, n, width), expected_topk(values, k))
    assert (found.values > 0).all()
    assert (np.diff(found.rows) >= 0).all(), "in order of row"
    assert len(np.unique(found.rows * width + found.columns)) == len(found.rows), "each entry once"


def uneven(n: int, width: int, levels: int, shift: float, seed: int) -> torch.Tensor:
    """Few levels make ties at every place; a shift leaves rows with fewer than k entries above zero, or none."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(n, width, generator=generator) * levels).round() / levels + shift


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
    check(uneven(n, width, levels, shift, seed), min(k, width))


@given(
    st.integers(1, 7),
    st.integers(0, 300),
    st.integers(1, 5),
    st.integers(0, 6),
    st.sampled_from([8, 16, 32]),
    st.sampled_from([3, 20, 10_000]),
    st.sampled_from([-3.0, 0.0]),
    st.integers(0, 1000),
)
def test_tiles_of_any_size_give_the_same(
    n: int, more: int, k: int, more_pieces: int, piece: int, levels: int, shift: float, seed: int
) -> None:
    width = 2 * k * tiles.PIECE + more
    values = uneven(n, width, levels, shift, seed)
    values[:, :: max(1, seed % 7)] -= torch.inf if seed % 3 == 0 else 0.0
    check(values, k, Tiles(n, (k + more_pieces) * piece, piece))


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


@pytest.mark.parametrize("descending", [False, True])
def test_hot_columns_all_in_one_place(descending: bool) -> None:
    """Every column larger than those before it: nearly all pieces pass the bound, and most are dropped again."""
    values = torch.randn(20, 16_384, generator=torch.Generator().manual_seed(0))
    check(values.sort(dim=1, descending=descending).values, 32)
    hot = values.clone()
    hot[:, -3000:] += 3.0
    check(hot if not descending else hot.flip(1), 32)


@pytest.fixture
def sorted_whole(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows were sorted whole, each time."""
    found: list[int] = []
    whole = cpu_selection._topk_of_whole_rows

    def noted(pre: PreActivations, k: int, room: Room, relu_first: bool) -> Entries:
        found.append(pre.shape[0])
        return whole(pre, k, room, relu_first)

    monkeypatch.setattr(cpu_selection, "_topk_of_whole_rows", noted)
    return found


def test_only_tied_rows_are_sorted_whole(sorted_whole: list[int]) -> None:
    values = torch.randn(64, 8192, generator=torch.Generator().manual_seed(0))
    check(values, 32)
    check(values - 4.5, 32)
    assert sorted_whole == []
    values[[3, 50], 1000:1040] = 7.0
    check(values, 32)
    assert sorted_whole == [2]
    check(torch.ones(64, 8192), 32)
    assert sorted_whole == [2, 64]


def test_rows_that_rise_are_bounded_by_the_tile_itself(
    sorted_whole: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    bounded: list[int] = []
    within = cpu_selection.Candidates._tighten_within

    def noted(self: cpu_selection.Candidates, tile: np.ndarray, rows: np.ndarray) -> None:
        bounded.append(len(rows))
        within(self, tile, rows)

    monkeypatch.setattr(cpu_selection.Candidates, "_tighten_within", noted)
    values = torch.randn(20, 65_536, generator=torch.Generator().manual_seed(0))
    check(values, 32)
    assert bounded == []
    values[3:5] = values[3:5].sort(dim=1).values
    check(values, 32)
    assert set(bounded) == {2}
    assert sorted_whole == []


def test_a_room_may_be_used_for_one_block_after_another() -> None:
    """What the last block left behind, its padding included, is nothing to the next."""
    room = Room()
    for width, k in ((20_000, 32), (4_100, 32), (30_000, 5), (4_100, 32), (500, 100), (20_001, 32)):
        check(torch.randn(6, width, generator=torch.Generator().manual_seed(width)) + 1, k, room=room)


@pytest.fixture
def certain(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows went without a likely bound, each time."""
    found: list[int] = []
    init = cpu_selection.Candidates.__init__

    def noted(self: cpu_selection.Candidates, n_rows: int, *rest: Any) -> None:
        found.append(n_rows)
        init(self, n_rows, *rest)

    monkeypatch.setattr(cpu_selection.Candidates, "__init__", noted)
    return found


def test_rows_of_which_a_likely_bound_says_too_much_or_too_little_are_computed_once_more(certain: list[int]) -> None:
    likely = LikelyBounds()

    def look(values: torch.Tensor) -> None:
        found = select_topk(OfOneNorm(values), 32, tiles_for(20_000, 32), Room(), likely=likely)
        assert torch.equal(dense(found, 64, 20_000), expected_topk(values, 32))

    usual = torch.randn(64, 20_000, generator=torch.Generator().manual_seed(0))
    look(usual)
    look(usual)
    assert certain == [64], "the first block alone"
    odd = usual.clone()
    odd[5, :2000] += 10  # far more than a few times k above the bound
    odd[9, 8:] = 0.5  # and here, fewer than k
    look(odd)
    assert certain == [64, 2]
    look(usual)
    look(usual + 2)  # all rows: given up, and learned anew
    assert certain == [64, 2, 64]
    look(usual + 2)
    assert certain == [64, 2, 64]


def test_entries_are_taken_out_of_many_tiles_at_once_or_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(5, 3000, generator=torch.Generator().manual_seed(0))
    for most in (0, 3, 100, scan.MOST_OCTETS):
        monkeypatch.setattr(scan, "MOST_OCTETS", most)
        found = select_above(Given(values), 1.0, Tiles(rows=5, columns=64), Room())
        assert torch.equal(dense(found, 5, 3000), torch.where(values > 1, values, 0.0))
        assert (np.diff(found.rows * 3000 + found.columns) > 0).all(), "in order of row and column"


@given(st.integers(0, 1000), st.sampled_from([3, 20, 10_000]), st.sampled_from([0.0, 0.2, 0.9, 1.0]))
def test_rows_that_are_not_like_those_before_are_looked_at_anew(seed: int, levels: int, scale: float) -> None:
    """Some rows have few large entries, or none above zero, or ties at the bound."""
    likely, chosen = LikelyBounds(), tiles_for(3000, 5)
    usual = uneven(6, 3000, 10_000, 0.0, seed)
    select_topk(Given(usual), 5, chosen, Room(), likely=likely)
    values = uneven(6, 3000, levels, 0.0, seed + 1)
    values[seed % 6] *= scale
    values[(seed + 1) % 6] -= 10.0
    values[(seed + 2) % 6, 4:] = 0.01
    for _ in range(2):
        found = select_topk(Given(values), 5, chosen, Room(), likely=likely)
        assert torch.equal(dense(found, 6, 3000), expected_topk(values, 5))
        assert (np.diff(found.rows) >= 0).all()
        assert len(np.unique(found.rows * 3000 + found.columns)) == len(found.rows)


def test_numbers_that_are_none_end_in_no_error() -> None:
    """They are noticed elsewhere, after the block was encoded."""
    values = torch.randn(6, 20_000, generator=torch.Generator().manual_seed(0))
    values[2, 7], values[3], values[4, 9] = torch.nan, torch.nan, torch.inf
    found = select_topk(Given(values), 32, USUAL, Room())
    others = np.isin(found.rows, [0, 1, 5])
    assert torch.equal(
        dense(Entries(found.rows[others], found.columns[others], found.values[others]), 6, 20_000)[[0, 1, 5]],
        expected_topk(values[[0, 1, 5]], 32),
    )


def test_tiles_hold_enough_pieces_for_a_bound_and_are_of_bounded_size() -> None:
    for k in (1, 32, 64, 200, 1000):
        for width in (2 * k * tiles.PIECE, 4096, 32_768, 131_072, 1_000_000):
            if width < 2 * k * tiles.PIECE:
                continue
            chosen = tiles_for(width, k)
            assert chosen.columns % chosen.piece == 0
            assert chosen.columns // chosen.piece >= min(2 * k, width // chosen.piece)
            assert 1 <= chosen.rows <= tiles.MOST_ROWS
            assert chosen.rows == tiles.LEAST_ROWS or chosen.rows * chosen.columns <= tiles.TILE_ENTRIES


def test_a_result_for_a_device_has_a_size_that_is_known_beforehand() -> None:
    """Its zeros stand for no entry."""
    values = torch.randn(6, 300, generator=torch.Generator().manual_seed(0)) - 2.5
    check_on_device(values, 20)


@given(
    st.integers(1, 4),
    st.integers(1, 2000),
    st.integers(1, 40),
    st.integers(1, 16),
    st.sampled_from([1, 3, 100]),
    st.integers(0, 100),
)
def test_the_top_k_for_a_device_out_of_pieces(n: int, width: int, k: int, piece: int, n_values: int, seed: int) -> None:
    """Any width, whole pieces or not; with few values nearly all are equal."""
    rng = np.random.default_rng(seed)
    values = torch.from_numpy(rng.permuted(np.tile(np.arange(width), (n, 1)), axis=1) // n_values - 5.0).float()
    with mock.patch.object(gpu_selection, "NARROW", 0), mock.patch.object(gpu_selection, "PIECE", piece):
        check_on_device(values, min(k, width))


@pytest.mark.parametrize(("width", "k"), [(4097, 32), (16_384, 1), (65_536, 512), (24_001, 32), (65_536, 2000)])
def test_wide_rows_on_a_device(width: int, k: int) -> None:
    values = torch.randn(3, width, generator=torch.Generator().manual_seed(0))
    values[:, -3:] = 9 + torch.arange(3)
    check_on_device(values, k)


def check_on_device(values: torch.Tensor, k: int) -> None:
    """The largest values, at columns that hold them: which of equal ones is not promised."""
    n, width = values.shape
    found = gpu_selection.select_topk(values, k)
    assert len(found.rows) == len(found.columns) == len(found.values) == n * k
    assert torch.equal(found.rows, torch.arange(n).repeat_interleave(k))
    assert torch.equal(found.values, values[found.rows, found.columns].clamp(min=0))
    assert len(torch.unique(found.rows * width + found.columns)) == n * k
    largest = values.topk(k, dim=1).values.clamp(min=0)
    assert torch.equal(found.values.reshape(n, k).sort(dim=1, descending=True).values, largest)


@given(st.integers(1, 6), st.integers(1, 200), st.integers(1, 30), st.integers(0, 100))
def test_entries_above_a_threshold(n: int, width: int, octets: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values, threshold = torch.randn(n, width, generator=generator), torch.randn(width, generator=generator)
    values[:, 0] = threshold[0]  # at the threshold is not above it
    chosen = replace(tiles_for(width, None), columns=8 * octets)
    for least in (threshold, 0.0):
        expected = torch.where(values > least, values, 0.0)
        given_least = least.numpy() if isinstance(least, torch.Tensor) else least
        found = select_above(Given(values), given_least, chosen, Room())
        assert torch.equal(dense(found, n, width), expected)
        assert (np.diff(found.rows) >= 0).all()
        on_device = gpu_selection.select_above(values, least)
        as_entries = Entries(on_device.rows.numpy(), on_device.columns.numpy(), on_device.values.numpy())
        assert torch.equal(dense(as_entries, n, width), expected)
