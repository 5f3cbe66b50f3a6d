"""The canonical coder: sparse and dense codes agree at any size and blocking, and impossible weights are refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from sae_auto_interp.autoencoders import SparseCoder, sparse_coder
from sae_auto_interp.autoencoders.encoding import cpu_selection, encoder, tiles
from sae_auto_interp.autoencoders.settings import CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights
from sae_auto_interp.errors import InputError, WeightsError
from tests.autoencoders.families import pre_activations, random_weights, top_k

ACTIVATIONS = ("topk", "relu", "jumprelu")


def weights(width: int = 9, d_in: int = 4, seed: int = 0, d_out: int | None = None) -> CoderWeights:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"w_enc": (width, d_in), "b_enc": (width,), "w_dec": (width, d_out or d_in), "b_dec": (d_out or d_in,)}
    tensors = {name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()}
    return CoderWeights(**tensors, threshold=torch.rand(width, generator=generator))


def coder(given_weights: CoderWeights, activation: Any, k: int = 3, **other: Any) -> SparseCoder:
    return SparseCoder(
        given_weights, CoderSettings(activation=activation, k=k if activation == "topk" else None, **other)
    )


def reference(w: CoderWeights, activation: str, k: int, x: torch.Tensor) -> torch.Tensor:
    """Dense, in float64, in one piece."""
    pre = (x - w.b_dec).double() @ w.w_enc.double().T + w.b_enc
    if activation == "topk":
        smallest = pre.sort(dim=1, descending=True).values[:, k - 1 : k]
        return torch.where(pre >= smallest, pre, 0.0).clamp(min=0)
    least = w.threshold if activation == "jumprelu" and w.threshold is not None else 0.0
    return torch.where(pre > least, pre, 0.0).clamp(min=0)


def small_blocks(patch: pytest.MonkeyPatch, entries: int, columns: int) -> None:
    """No more than `entries` pre-activations at a time, in tiles of `columns`."""
    patch.setattr(tiles, "TILE_ENTRIES", entries)
    patch.setattr(tiles, "TILE_COLUMNS", columns)
    for module in (tiles, cpu_selection):
        patch.setattr(module, "WHOLE_ENTRIES", entries)
    patch.setattr(tiles, "LEAST_ROWS", 1)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(ACTIVATIONS),
    st.integers(0, 9),
    st.integers(2, 5),
    st.integers(1, 30),
    st.integers(1, 40),
    st.integers(0, 99),
)
def test_codes_do_not_depend_on_how_they_are_blocked(
    activation: Any, n: int, d_in: int, width: int, block: int, seed: int
) -> None:
    w = weights(width, d_in, seed)
    k = min(width, 1 + seed % 4)
    made = coder(w, activation, k)
    x = torch.randn(n, d_in, generator=torch.Generator().manual_seed(seed))
    expected = reference(w, activation, k, x)
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch, block, max(1, block // 2))
        code, dense = made.encode(x), made(x)
    assert torch.equal(dense > 0, expected > 0)
    torch.testing.assert_close(dense, expected.float(), rtol=1e-4, atol=1e-5)
    found = torch.zeros(n, width)
    found[code.positions, code.features] = code.values
    assert torch.equal(found, dense), "sparse and dense codes are the same"
    assert (code.values > 0).all()
    assert torch.equal(code.positions, code.positions.sort().values), "in order of position"
    assert len(set(zip(code.positions.tolist(), code.features.tolist(), strict=True))) == len(code.values)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of every matrix product in the test: the number of pre-activations."""
    found: list[int] = []
    product = encoder.product

    def measured(x: torch.Tensor, w_enc: torch.Tensor, out: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        found.append(out.numel())
        return product(x, w_enc, out, bias)

    monkeypatch.setattr(encoder, "product", measured)
    return found


def test_no_block_is_larger_than_it_may_be(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A dense code of all positions never exists."""
    small_blocks(monkeypatch, 200, 20)
    w = weights(width=50)
    for activation in ACTIVATIONS:
        sizes.clear()
        coder(w, activation).encode(torch.randn(33, 4))
        assert sum(sizes) == 33 * 50
        assert max(sizes) <= 200


@pytest.mark.parametrize("activation", ["relu", "jumprelu"])
def test_only_the_columns_that_are_asked_for_are_multiplied(activation: str, sizes: list[int]) -> None:
    made, x = coder(weights(width=50), activation), torch.randn(33, 4)
    features = torch.tensor([3, 17, 49])
    code = made.encoder(features).encode(x)
    assert sum(sizes) == 33 * 3
    found = torch.zeros(33, 50)
    found[code.positions, code.features] = code.values
    wanted = torch.zeros(33, 50)
    wanted[:, features] = made(x)[:, features]
    torch.testing.assert_close(found, wanted)
    assert len(code.values) == int((wanted > 0).sum()) > 20


@pytest.mark.parametrize("activation", ["relu", "jumprelu"])
def test_a_filter_that_keeps_nothing_finds_nothing(activation: str) -> None:
    code = coder(weights(width=50), activation).encoder(torch.empty(0, dtype=torch.long)).encode(torch.randn(33, 4))
    assert len(code.positions) == len(code.features) == len(code.values) == 0


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("n", [0, 1, 7])
def test_what_runs_on_a_gpu_gives_the_same_entries(activation: str, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No position at all, one, and more than a block holds."""
    monkeypatch.setattr(encoder, "BLOCK_ENTRIES_ON_DEVICE", 3 * 50)
    made = coder(weights(width=50), activation).encoder()
    assert isinstance(made, encoder.Encoder)
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(0))
    rows, columns, values = made._on_device(made.prepare(x))
    found, expected = torch.zeros(n, 50), torch.zeros(n, 50)
    found[rows, columns] = values
    code = made.encode(x)
    expected[code.positions, code.features] = code.values
    torch.testing.assert_close(found, expected)


def test_encoders_that_take_turns_may_share_their_scratch() -> None:
    x, scratch = torch.randn(20, 4), encoder.Scratch()
    made = [coder(weights(width, seed=width), kind) for width in (9, 300, 31, 1000) for kind in ACTIVATIONS]
    for each in [*made, *reversed(made)]:
        shared, alone = each.encoder(None, scratch).encode(x), each.encode(x)
        assert all(
            torch.equal(getattr(shared, name), getattr(alone, name)) for name in ("positions", "features", "values")
        )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_activations_that_cannot_be_encoded_are_refused(value: float) -> None:
    x = torch.randn(5, 4)
    x[3, 2] = value
    for activation in ACTIVATIONS:
        with pytest.raises(InputError, match="NaN, infinite or larger"):
            coder(weights(), activation).encode(x)


def test_a_weight_that_could_overflow_is_refused() -> None:
    w = weights()
    w.w_enc[2, 1] = 1e20
    with pytest.raises(WeightsError, match=r"w_enc holds 1e\+20; the file is damaged"):
        coder(w, "relu")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_dense_code_keeps_the_shape_of_what_it_is_given(activation: str) -> None:
    made = coder(weights(), activation)
    x = torch.randn(2, 3, 5, 4)
    dense = made(x)
    assert dense.shape == (2, 3, 5, 9)
    torch.testing.assert_close(dense[1, 2, 3], made(x[1, 2, 3][None])[0])
    assert made(torch.randn(4)).shape == (9,)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_activations_of_any_precision_are_encoded_in_float32(activation: str, dtype: torch.dtype) -> None:
    made = coder(weights(), activation)
    x = torch.randn(6, 4).to(dtype)
    assert made(x).dtype == made.encode(x).values.dtype == torch.float32
    assert torch.equal(made(x), made(x.float()))


def test_nothing_that_is_passed_in_is_changed() -> None:
    w = weights()
    x = torch.randn(5, 4)
    given = [value for name in sparse_coder.WEIGHT_NAMES if (value := getattr(w, name)) is not None]
    before = (x.clone(), *(value.clone() for value in given))
    made = coder(w, "jumprelu", normalisation="layer_norm")
    made(x)
    assert all(torch.equal(a, b) for a, b in zip(before, (x, *given), strict=True))
    assert not list(made.parameters()), "nothing here is trained"


def test_a_negative_threshold_does_not_let_negative_values_through() -> None:
    w = replace(weights(), threshold=torch.full((9,), -5.0))
    x = torch.randn(50, 4)
    assert torch.equal(coder(w, "jumprelu")(x), coder(w, "relu")(x))


def test_top_k_of_the_whole_width_is_a_relu() -> None:
    x = torch.randn(50, 4)
    torch.testing.assert_close(coder(weights(), "topk", k=9)(x), coder(weights(), "relu")(x))


def test_thresholds_are_for_jumprelu_alone() -> None:
    x = torch.randn(50, 4)
    without = replace(weights(), threshold=None)
    for activation in ("relu", "topk"):
        assert torch.equal(coder(weights(), activation)(x), coder(without, activation)(x))
    assert not torch.equal(coder(weights(), "jumprelu")(x), coder(without, "relu")(x))


def test_top_k_against_numpy() -> None:
    w = random_weights()
    tensors = {name: torch.tensor(getattr(w, name)) for name in ("w_enc", "b_enc", "w_dec", "b_dec")}
    x = np.random.default_rng(0).normal(size=(20, 12)).astype(np.float32)
    made = coder(CoderWeights(**tensors), "topk", k=5)
    expected = top_k(pre_activations(w, x, subtract=True), 5)
    np.testing.assert_allclose(made(torch.tensor(x)).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_normalising_coder_needs_the_input_to_decode() -> None:
    made = coder(weights(), "relu", normalisation="layer_norm")
    x = torch.randn(3, 4)
    shifted = 5 * x + 7
    code = made(x)
    torch.testing.assert_close(made(shifted), code, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(made.decode(code, shifted), 5 * made.decode(code, x) + 7, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="needs its input"):
        made.decode(code)


def test_a_coder_may_write_another_width_than_it_reads() -> None:
    made = coder(weights(d_out=6), "relu", subtract_b_dec=False)
    assert made.decode(made(torch.randn(5, 4))).shape == (5, 6)
    with pytest.raises(WeightsError, match="b_dec has 6 entries, but the encoder reads 4"):
        coder(weights(d_out=6), "relu")


def test_activations_of_another_width_are_refused() -> None:
    made = coder(weights(), "relu", source="my.pt")
    with pytest.raises(WeightsError, match=r"my\.pt reads 4 dimensions, but the activations have 6"):
        made(torch.randn(2, 6))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("w_enc", (4, 9)), ("w_enc", (36,)), ("w_enc", (9, 2, 2)), ("w_enc", (0, 4)), ("w_enc", (9, 0)),
        ("b_enc", (4,)), ("b_enc", (9, 2)), ("b_enc", ()), ("w_dec", (4, 9)), ("w_dec", (36,)), ("b_dec", (9,)),
        ("b_dec", (2, 4)), ("b_dec", ()), ("threshold", ()), ("threshold", (4,)), ("threshold", (2, 9)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("activation", ["topk", "jumprelu"])
def test_shapes_that_do_not_go_together_are_refused(activation: str, name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(WeightsError, match=r"my\.pt: .*(shape|entries)"):
        coder(replace(weights(), **{name: torch.zeros(shape)}), activation, source="my.pt")


@pytest.mark.parametrize("k", [None, 0, -1, 10])
def test_k_must_fit_the_width(k: int | None) -> None:
    with pytest.raises(WeightsError, match=f"k={k} does not fit a width of 9"):
        SparseCoder(weights(), CoderSettings(activation="topk", k=k))


def test_jumprelu_needs_thresholds() -> None:
    with pytest.raises(WeightsError, match="without thresholds"):
        coder(replace(weights(), threshold=None), "jumprelu")


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_infinities_of_half_precision_are_refused(value: float, dtype: torch.dtype) -> None:
    """The limit itself is infinite in float16."""
    x = torch.ones(5, 4, dtype=dtype)
    x[3, 2] = value
    with pytest.raises(InputError, match="NaN, infinite or larger"):
        coder(weights(), "relu", normalisation="layer_norm").encode(x)
