"""A row's code has the same bits whatever rows are encoded beside it, and however many."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from sae_auto_interp.autoencoders.encoding.tiles import product
from sae_auto_interp.autoencoders.settings import CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder

D_IN, N = 64, 40
NUMBERS = (*range(1, 20), 25, 31, 39)


@pytest.fixture(params=[1, 2, 3])
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("has_room", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
def test_few_rows_are_as_they_are_among_many(has_room: bool, has_bias: bool) -> None:
    x, weights = normal(N, D_IN), normal(500, D_IN, seed=1)
    bias = normal(500, seed=2) if has_bias else None
    whole = product(x, weights, bias=bias)
    torch.testing.assert_close(whole, x @ weights.T + (0.0 if bias is None else bias))
    for n in NUMBERS:
        room = torch.empty(n, 600)[:, :500] if has_room else None
        found = product(x[:n], weights, room, bias)
        assert room is None or found.data_ptr() == room.data_ptr()
        assert torch.equal(found, whole[:n]), n
        assert torch.equal(product(x[N - n :], weights, bias=bias), whole[N - n :]), n


def coder(activation: Any, width: int) -> SparseCoder:
    """Every tenth feature is there twice: where it is the k-th largest there is a tie."""
    w_enc, b_enc = normal(width, D_IN, seed=2), normal(width, seed=3)
    w_enc[1::10], b_enc[1::10] = w_enc[::10], b_enc[::10]
    threshold = normal(width, seed=4).abs() if activation == "jumprelu" else None
    weights = CoderWeights(w_enc=w_enc, b_enc=b_enc, w_dec=normal(width, D_IN), b_dec=normal(D_IN), threshold=threshold)
    return SparseCoder(
        weights, CoderSettings(activation, k=4 if activation in ("topk", "abstopk", "groupmax") else None)
    )


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("width", [200, 2400])
@pytest.mark.parametrize("activation", ["topk", "relu", "jumprelu", "abstopk", "groupmax"])
def test_so_are_their_codes(activation: Any, width: int) -> None:
    x, made = normal(N, D_IN, seed=5), coder(activation, width)
    whole = made.encode(x)
    for n in NUMBERS:
        few, among = made.encode(x[:n]), whole.positions < n
        for name in ("positions", "features", "values"):
            assert torch.equal(getattr(few, name), getattr(whole, name)[among]), (n, name)
