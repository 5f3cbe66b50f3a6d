"""Of every family that keeps a top k: which entries are kept, also among equal ones.

The inputs are such that pre-activations are exact in float32, so equal ones are equal on both sides: small whole
numbers, decoder norms that are powers of two, and for families with a layer norm vectors whose deviation is one too.
Families that compare with a threshold are met at zero and at it in `test_families`, `test_more_families` and
`test_exactness`; what the packages themselves kept is in `test_conformance`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sae_auto_interp.autoencoders.encoding.tiles import PIECE
from sae_auto_interp.autoencoders.neurons import NeuronCoder
from sae_auto_interp.autoencoders.random_weights import random_coder
from sae_auto_interp.autoencoders.settings import Activation, CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from tests.autoencoders import families, families_scopes as scopes, test_families, test_more_families
from tests.autoencoders.families import D_IN, Array, K, Weights, Written
from tests.autoencoders.test_exactness import whole, with_exact_norms

Write = Callable[[Path, Weights], Written]

NORMALISING: tuple[Write, ...] = (families.openai_topk, families.saelens_topk)
TOP_K: tuple[Write, ...] = (*families.TOP_K, *test_more_families.TOP_K, scopes.openmoss_top_k)
N = 120
NARROW, WIDE = 40, 740
"""Rows of the one are sorted whole; of the other, candidates are taken out of tiles of columns."""


@pytest.fixture(params=[NARROW, WIDE], autouse=True)
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    assert NARROW < 2 * K * PIECE < WIDE
    for module in ("families", "families_scopes", "test_exactness"):
        monkeypatch.setattr(f"tests.autoencoders.{module}.WIDTH", request.param)
    monkeypatch.setattr("tests.autoencoders.families_dictionary_learning.GROUPS", (8, 12, request.param - 20))
    return request.param


def read(write: Write, written: Written) -> SparseCoder:
    of_others = write in test_more_families.READERS
    return test_more_families.read(write, written) if of_others else test_families.read(written)


def inputs(write: Write) -> Array:
    """Whole numbers; for a layer norm permutations of numbers of mean 0 and deviation 2^41, beside which its epsilon
    vanishes. The first is zero, where no norm is taken."""
    if write not in NORMALISING:
        x = whole(N, D_IN)
        x[0] = 0
        return x
    rng = np.random.default_rng(3)
    one = np.array([3, 3, -3, -3, 2, -2, 0, 0, 0, 0, 0, 0], np.float32)
    return np.stack([rng.permutation(one) for _ in range(N)]) * np.float32(2.0**40)


def assert_kept(coder: SparseCoder, x: Array, expected: Array) -> None:
    """Exactly the entries of `expected`, each once."""
    code = coder.encode(torch.tensor(x))
    found = np.zeros_like(expected)
    found[code.positions, code.features] = code.values
    assert len(code.values) == (expected > 0).sum() > 0
    assert np.array_equal(found > 0, expected > 0)
    assert np.allclose(found, expected, rtol=1e-5, atol=0)


def n_tied(coder: SparseCoder, x: Array) -> int:
    """Rows of which one of several equal entries is kept and another is not."""
    wide = replace(coder.settings, k=coder.width)
    everything = SparseCoder(CoderWeights(**{name: getattr(coder, name) for name in _NAMES}), wide)
    best = everything(torch.tensor(x)).sort(dim=1, descending=True).values
    return int(((best[:, K - 1] == best[:, K]) & (best[:, K] > 0)).sum())


_NAMES = ("w_enc", "b_enc", "w_dec", "b_dec", "scale")


@pytest.mark.parametrize("write", TOP_K)
def test_of_equal_entries_those_are_kept_that_the_familys_own_code_keeps(write: Write, tmp_path: Path) -> None:
    written = write(tmp_path, with_exact_norms())
    coder, x = read(write, written), inputs(write)
    assert n_tied(coder, x) > 10
    assert_kept(coder, x, written.encode(x))


@pytest.mark.parametrize("write", TOP_K)
def test_of_entries_at_zero_none_is_kept(write: Write, tmp_path: Path) -> None:
    """Fewer than k are above zero, and many exactly at it."""
    w, x = with_exact_norms(), inputs(write)
    w = replace(w, w_dec=np.sign(w.w_dec))  # of norm 1: a code that is below another is so by its pre-activation
    for name in ("first", "lower"):
        (tmp_path / name).mkdir()
    codes = write(tmp_path / "first", w).encode(x)
    least = np.where(codes > 0, codes, np.inf).min(axis=1)
    written = write(tmp_path / "lower", replace(w, b_enc=w.b_enc - np.float32(np.floor(np.median(least[1:])))))
    coder, expected = read(write, written), written.encode(x)
    n_kept = (expected > 0).sum(axis=1)
    assert (n_kept < K).sum() > 10
    assert_kept(coder, x, expected)


@pytest.mark.parametrize("scale", [2.0**40, 2.0**-40])
@pytest.mark.parametrize("write", [write for write in TOP_K if write not in NORMALISING])
def test_of_huge_and_tiny_activations_the_same_are_kept(write: Write, scale: float, tmp_path: Path) -> None:
    """Without biases, beside which they would be no exact numbers."""
    w = with_exact_norms()
    written = write(tmp_path, replace(w, b_enc=0 * w.b_enc, b_dec=0 * w.b_dec))
    coder, x = read(write, written), inputs(write)
    x[0] = 1  # without biases nothing fires on zeros
    huge = x * np.float32(scale)
    assert n_tied(coder, huge) > 10
    assert_kept(coder, huge, written.encode(huge))
    assert np.array_equal(written.encode(huge) > 0, written.encode(x) > 0)


def made(activation: Activation, width: int) -> SparseCoder:
    w = with_exact_norms()
    weights = CoderWeights(*(torch.tensor(value) for value in (w.w_enc, w.b_enc, w.w_dec, w.b_dec)))
    assert len(weights.w_enc) == width
    return SparseCoder(weights, CoderSettings(activation, k=K))


def test_a_group_keeps_the_first_of_its_largest(width: int) -> None:
    """sparsify's groupmax: torch.max, which is documented to give the first."""
    coder, x = made("groupmax", width), whole(N, D_IN)
    w = with_exact_norms()
    pre = np.maximum(families.pre_activations(w, x, subtract=True), 0).reshape(N, K, width // K)
    expected = np.zeros_like(pre)
    best = pre.argmax(axis=2)[:, :, None]
    np.put_along_axis(expected, best, np.take_along_axis(pre, best, 2), 2)
    assert ((pre == pre.max(axis=2, keepdims=True)) & (pre > 0)).sum() > (expected > 0).sum() + 20
    assert_kept(coder, x, expected.reshape(N, width))


def test_the_top_k_by_absolute_value_takes_equal_ones_as_torch_does(width: int) -> None:
    coder, x = made("abstopk", width), whole(N, D_IN)
    pre = families.pre_activations(with_exact_norms(), x, subtract=True)
    best = torch.from_numpy(np.abs(pre).astype(np.float32)).topk(K, dim=1).indices.numpy()
    expected = np.zeros_like(pre)
    np.put_along_axis(expected, best, np.take_along_axis(pre, best, 1), 1)
    found = coder(torch.tensor(x)).numpy()
    assert (expected < 0).any()
    assert np.array_equal(found, expected)


def test_neurons_and_random_directions_take_equal_ones_as_torch_does(width: int) -> None:
    x = whole(N, width)
    assert np.array_equal(NeuronCoder(width, k=K)(torch.tensor(x)).numpy(), families.top_k(x, K))
    directions = random_coder(D_IN, width, np.random.default_rng(0), k=K)
    directions.w_enc.copy_(directions.w_enc.sign())
    directions.b_dec.zero_()
    few = whole(N, D_IN)
    pre = few @ directions.w_enc.numpy().T + directions.b_enc.numpy()
    assert np.array_equal(directions(torch.tensor(few)).numpy(), families.top_k(pre, K))


def test_which_of_equal_entries_torch_keeps_is_no_simple_rule() -> None:
    """So none is promised in the documentation but that it is torch's. If this fails, a simpler one may be."""
    scores = np.random.default_rng(0).integers(0, 60, (300, 100)).astype(np.float32)
    kept = families.top_k(scores, K) > 0
    order = np.arange(100, dtype=np.float32) / 1000
    first, last = families.top_k(scores - order, K) > 0, families.top_k(scores + order, K) > 0
    assert not np.array_equal(first, last), "there are ties"
    assert not np.array_equal(kept, first)
    assert not np.array_equal(kept, last)
    values = np.sort(np.where(kept, scores, 0), axis=1)[:, -K:]
    assert np.array_equal(values, np.sort(scores, axis=1)[:, -K:]), "the values are the k largest in any case"
