"""Encoders beside the plain top k and threshold, against dense formulas written out here."""

import pytest
import torch
from torch import Tensor

from sae_auto_interp.autoencoders.encoding import other_encoders
from sae_auto_interp.autoencoders.settings import Activation, CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder

WIDTH, D_IN, K = 24, 6, 4


def numbers(*shape: int, seed: int = 0, whole: bool = False) -> Tensor:
    """Whole numbers are exact in every product, and often equal."""
    generator = torch.Generator().manual_seed(seed)
    if whole:
        return torch.randint(-2, 3, shape, generator=generator).float()
    return torch.randn(shape, generator=generator)


def made(activation: Activation, *, whole: bool = False, **more: Tensor) -> SparseCoder:
    weights = CoderWeights(
        numbers(WIDTH, D_IN, whole=whole), numbers(WIDTH, seed=1, whole=whole), numbers(WIDTH, D_IN, seed=2),
        numbers(D_IN, seed=3, whole=whole), **more,
    )  # fmt: skip
    return SparseCoder(weights, CoderSettings(activation, k=K if activation != "gated" else None))


def pre(coder: SparseCoder, x: Tensor) -> Tensor:
    return (x - coder.b_dec) @ coder.w_enc.T + coder.b_enc


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("entries", [WIDTH, 7 * WIDTH, 1 << 25])
def test_groupmax_keeps_the_largest_of_each_group(entries: int, whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_encoders, "BLOCK_ENTRIES", entries)
    coder, x = made("groupmax", whole=whole), numbers(50, D_IN, seed=4, whole=whole)
    values, within = pre(coder, x).relu().reshape(50, K, WIDTH // K).max(dim=-1)
    expected = torch.zeros(50, WIDTH).scatter_(1, within + torch.arange(0, WIDTH, WIDTH // K), values)
    torch.testing.assert_close(coder(x), expected)
    assert bool((coder.encode(x).values > 0).all())


@pytest.mark.parametrize("entries", [WIDTH, 7 * WIDTH, 1 << 25])
def test_the_top_k_by_absolute_value_keeps_signs(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_encoders, "BLOCK_ENTRIES", entries)
    coder, x = made("abstopk"), numbers(50, D_IN, seed=4)
    dense = pre(coder, x)
    order = dense.abs().argsort(dim=1, descending=True)[:, :K]
    expected = torch.zeros_like(dense).scatter_(1, order, dense.gather(1, order))
    torch.testing.assert_close(coder(x), expected)
    assert bool((coder(x) < 0).any())
    assert coder.settings.is_signed


def test_a_gate_decides_and_another_line_gives_the_value() -> None:
    """With whole numbers some pre-activations lie exactly on the gate: those are shut."""
    gate, gain, offset = numbers(WIDTH, seed=5, whole=True), numbers(WIDTH, seed=6).exp(), numbers(WIDTH, seed=7)
    coder = made("gated", whole=True, threshold=-gate, gain=gain, offset=offset)
    x = numbers(200, D_IN, seed=8, whole=True)
    u = pre(coder, x)
    assert bool((u + gate == 0).any())
    expected = (u + gate > 0) * (gain * u + offset).relu()
    torch.testing.assert_close(coder(x), expected)
    kept = torch.tensor([1, 5, 20])
    code = coder.encoder(features=kept).encode(x)
    torch.testing.assert_close(coder.densified(code, 200)[:, kept], expected[:, kept])


@pytest.mark.parametrize("activation", ["groupmax", "abstopk", "topk"])
def test_nothing_in_gives_nothing(activation: Activation) -> None:
    code = made(activation).encode(torch.empty(0, D_IN))
    assert len(code.positions) == len(code.features) == len(code.values) == 0


def test_sparse_decoding_is_dense_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sae_auto_interp.autoencoders.sparse_coder.GATHERED_AT_ONCE", 5)
    monkeypatch.setattr("sae_auto_interp.autoencoders.coder.RECONSTRUCTED_AT_ONCE", 7)
    coder, x = made("topk", w_skip=numbers(D_IN, D_IN, seed=9)), numbers(20, D_IN, seed=4)
    expected = coder(x) @ coder.w_dec + coder.b_dec + x @ coder.w_skip.T  # type: ignore[union-attr]
    torch.testing.assert_close(coder.reconstruct(x), expected)
    torch.testing.assert_close(coder.decode(coder(x), x), expected)
