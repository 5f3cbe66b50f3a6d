"""Neurons, random weights and Python functions as coders, against what their docstrings say, computed here."""

from pathlib import Path
from typing import Any

import nnsight
import numpy as np
import pytest
import torch
from torch import Tensor

from sae_auto_interp.autoencoders import CallableCoder, NeuronCoder, random_coder
from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.callable_coder import token_site
from sae_auto_interp.autoencoders.encoding.encoder import SparseCode
from sae_auto_interp.autoencoders.neurons import neuron_coders, rotated_neurons
from sae_auto_interp.autoencoders.random_weights import random_coders
from sae_auto_interp.errors import InputError
from sae_auto_interp.features import CacheOptions, FeatureCache
from sae_auto_interp.models.activations import BACKENDS, activation_reader
from sae_auto_interp.models.sites.site import Site
from tests.support.records import D_MODEL, plain_rows, tiny_gpt2

X = 3 * torch.randn(20, 12, generator=torch.Generator().manual_seed(0))


def top_k(x: Tensor, k: int) -> Tensor:
    smallest = x.sort(dim=1, descending=True).values[:, k - 1 : k]
    return torch.where(x >= smallest, x, 0.0).clamp(min=0)


@pytest.mark.parametrize("k", [1, 4, 12])
def test_the_k_largest_neurons_fire_if_they_are_above_zero(k: int) -> None:
    coder = NeuronCoder(12, k=k)
    assert torch.equal(coder(X), top_k(X, k))
    assert (coder.encode(X).values > 0).all()
    assert (coder.d_in, coder.width) == (12, 12)


@pytest.mark.parametrize("threshold", [0.0, 1.5])
def test_neurons_above_the_threshold_fire_and_those_at_it_do_not(threshold: float) -> None:
    x = X.clone()
    x[:, 3] = threshold
    coder = NeuronCoder(12, threshold=threshold)
    assert torch.equal(coder(x), torch.where(x > threshold, x, 0.0))
    assert torch.equal(coder.reconstruct(x), coder(x))
    assert torch.equal(coder.direction(5), torch.eye(12)[5])


def test_neurons_need_no_matrix() -> None:
    """A matrix of this many neurons would take 4 TB."""
    coder = NeuronCoder(1_000_000, k=3)
    assert sum(value.numel() for value in coder.state_dict().values()) == 1
    assert len(coder.encode(torch.rand(2, 1_000_000)).values) == 6


def test_neurons_take_half_precision_and_nothing_at_all() -> None:
    coder = NeuronCoder(12, k=3)
    assert coder.encode(X.bfloat16()).values.dtype == torch.float32
    assert len(coder.encode(torch.zeros(0, 12)).values) == 0
    assert len(coder.encode(torch.zeros(4, 12)).values) == 0


@pytest.mark.parametrize(
    "settings",
    [{}, {"k": 2, "threshold": 1.0}, {"k": 0}, {"k": 13}, {"threshold": -1.0}, {"threshold": float("nan")}],
)
def test_impossible_neurons_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="neurons: "):
        NeuronCoder(12, **settings)


def test_rotated_neurons_are_the_same_vectors_in_an_orthogonal_basis() -> None:
    coder = rotated_neurons(12, np.random.default_rng(5), k=12)
    basis = coder.w_enc
    torch.testing.assert_close(basis @ basis.T, torch.eye(12), rtol=0, atol=1e-5)
    torch.testing.assert_close(coder(X), (X @ basis.T).clamp(min=0))
    assert torch.equal(basis, rotated_neurons(12, np.random.default_rng(5), k=3).w_enc)
    assert not torch.equal(basis, rotated_neurons(12, np.random.default_rng(6), k=3).w_enc)
    with_threshold = rotated_neurons(12, np.random.default_rng(5), threshold=2.0)
    rotated = X @ basis.T
    torch.testing.assert_close(with_threshold(X), torch.where(rotated > 2, rotated, 0.0))


def test_a_rotation_is_drawn_evenly() -> None:
    """Haar: the entry (0, 0) has mean 0 and variance 1 / d; QR without its signs would have only one sign."""
    rng = np.random.default_rng(0)
    corners = [float(rotated_neurons(4, rng, k=1).w_enc[0, 0]) for _ in range(400)]
    assert abs(np.mean(corners)) < 4 * 0.5 / 20
    assert abs(np.var(corners) - 0.25) < 0.06


def test_random_coders_are_as_a_fresh_autoencoder_is() -> None:
    coder = random_coder(12, 40, np.random.default_rng(1), k=4)
    torch.testing.assert_close(coder.w_dec.norm(dim=1), torch.ones(40))
    assert torch.equal(coder.w_enc, coder.w_dec)
    torch.testing.assert_close(coder(X), top_k(X @ coder.w_enc.T, 4))
    assert torch.equal(random_coder(12, 40, np.random.default_rng(1)).w_enc, coder.w_enc)
    assert random_coder(12, 40, np.random.default_rng(1)).settings.activation == "relu"
    with pytest.raises(InputError, match="width=0"):
        random_coder(12, 0, np.random.default_rng(1))


PLACES = {
    "blocks.1.mlp.hook_post": 4 * D_MODEL,
    "h.0.mlp.c_proj:in": 4 * D_MODEL,
    "h.0.mlp.act": 4 * D_MODEL,
    "h.1": D_MODEL,
}


@pytest.mark.parametrize("place", PLACES)
def test_a_place_says_how_many_neurons_it_has(place: str) -> None:
    model, n = tiny_gpt2(), PLACES[place]
    (coder,) = neuron_coders(model, [place], k=2).values()
    assert coder.width == n
    (coder,) = random_coders(model, [place], 30, np.random.default_rng(0), k=2).values()
    assert (coder.d_in, coder.width) == (n, 30)
    coders = neuron_coders(model, [place], threshold=0.1, rotation=np.random.default_rng(0))
    assert [c.width for c in coders.values()] == [n]


@pytest.mark.parametrize("backend", BACKENDS)
def test_neurons_are_cached_as_the_model_has_them(backend: str, tmp_path: Path) -> None:
    model, rows = tiny_gpt2(), plain_rows(4, 8, vocab=50)
    attached = attach(nnsight.NNsight(model), neuron_coders(model, ["blocks.1.mlp.hook_post"], k=5))
    caught: list[Tensor] = []
    handle = model.transformer.h[1].mlp.c_proj.register_forward_pre_hook(lambda _m, args: caught.append(args[0]))
    with torch.inference_mode():
        model(input_ids=torch.from_numpy(rows.tokens.astype(np.int64)))
    handle.remove()
    expected = top_k(caught[0].flatten(0, 1), 5).numpy()
    assert np.array_equal(cached(model, attached, rows, tmp_path, backend), expected)


def cached(model: Any, attached: Any, rows: Any, folder: Path, backend: str) -> np.ndarray:
    """[positions, width], dense, of the only module."""
    from safetensors.numpy import load_file

    cache = FeatureCache(model, attached, 3, options=CacheOptions(activation_dtype="float32", backend=backend))
    cache.run(tokens=rows)
    (path,) = cache.save_splits(1, folder / "cache")
    (file,) = (folder / "cache" / path).glob("*_*.safetensors")
    arrays = load_file(file)
    counts = np.diff(arrays["offsets"].astype(np.int64))
    found = np.zeros((rows.tokens.size, len(counts)), np.float32)
    found[arrays["locations"], np.repeat(np.arange(len(counts)), counts)] = arrays["activations"]
    return found


def signs(x: Tensor) -> Tensor:
    """Two features: how far the first dimension is above zero, and how far below."""
    return torch.stack([x[:, 0].clamp(min=0), (-x[:, 0]).clamp(min=0)], dim=1)


def test_a_function_of_activations_is_a_coder_in_three_lines() -> None:
    model: Any = nnsight.NNsight(tiny_gpt2())
    coder = CallableCoder(signs, d_in=D_MODEL, width=2)
    attached = attach(model, {"h.1": coder})
    with torch.inference_mode(), model.trace(input_ids=torch.tensor([[1, 2, 3]])):
        code = attached["transformer.h.1"].ae.output.save()
        hidden = attached["transformer.h.1"].output.save()
    assert torch.equal(code[0], signs(hidden[0]))
    assert (coder.settings.family, coder.settings.reconstructs) == ("callable", False)
    assert coder.settings.source.endswith("test_bare_coders.signs")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_function_of_tokens_is_given_their_ids(backend: str, tmp_path: Path) -> None:
    model, rows = tiny_gpt2(), plain_rows(4, 8, vocab=50)
    given: list[Tensor] = []

    def is_even_or_large(ids: Tensor) -> Tensor:
        given.append(ids)
        return torch.stack([(ids % 2 == 0).float(), (ids - 30).clamp(min=0).float()], dim=1)

    attached = attach(nnsight.NNsight(model), {token_site(model): CallableCoder(is_even_or_large, d_in=1, width=2)})
    assert list(attached) == ["transformer.wte"]
    found = cached(model, attached, rows, tmp_path, backend)
    ids = torch.from_numpy(rows.tokens.astype(np.int64)).flatten()
    assert np.array_equal(found, is_even_or_large(ids).numpy())
    assert {x.dtype for x in given} == {torch.long}


def test_a_trace_shows_a_function_of_tokens() -> None:
    model: Any = nnsight.NNsight(tiny_gpt2())
    attached = attach(model, {token_site(model): CallableCoder(lambda ids: ids[:, None].float(), d_in=1, width=1)})
    with torch.inference_mode(), model.trace(input_ids=torch.tensor([[7, 0, 49]])):
        code = attached["transformer.wte"].ae.output.save()
    assert code.flatten().tolist() == [7, 0, 49]


@pytest.mark.parametrize("backend", BACKENDS)
def test_token_ids_are_asked_only_of_what_reads_them(backend: str) -> None:
    reader = activation_reader(tiny_gpt2(), backend)
    ids = torch.tensor([[1, 2, 3]])
    with pytest.raises(InputError, match=r"transformer\.h\.0 does not read token ids"):
        reader(
            {"a": Site("transformer.h.0", "input", transform="token_ids")}, ids, torch.ones_like(ids), lambda *_: None
        )


def test_entries_in_any_order_are_sorted_by_position() -> None:
    def entries(_x: Tensor) -> SparseCode:
        return SparseCode(torch.tensor([2, 0]), torch.tensor([1, 0]), torch.tensor([3.0, 4.0]))

    code = CallableCoder(entries, d_in=12, width=2).encode(X)
    assert (code.positions.tolist(), code.features.tolist(), code.values.tolist()) == ([0, 2], [0, 1], [4.0, 3.0])


WRONG: dict[str, tuple[Any, str]] = {
    "shape": (lambda x: x, r"gave \(20, 12\) for 20 positions; expected a tensor of shape \(20, 2\)"),
    "type": (lambda x: [1], "gave list for 20 positions"),
    "NaN": (lambda x: torch.full((20, 2), float("nan")), "gave NaN"),
    "infinite": (lambda x: torch.full((20, 2), float("inf")), "no finite numbers"),
    "feature": (lambda x: SparseCode(torch.tensor([0]), torch.tensor([2]), torch.ones(1)), "features from 2 to 2 of 2"),
    "twice": (lambda x: SparseCode(torch.tensor([3, 3]), torch.tensor([1, 1]), torch.ones(2)), "several values of one"),
    "position": (lambda x: SparseCode(torch.tensor([20]), torch.tensor([0]), torch.ones(1)), "positions from 20 to 20"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_function_gives_is_checked(case: str) -> None:
    function, message = WRONG[case]
    with pytest.raises(InputError, match=message):
        CallableCoder(function, d_in=12, width=2).encode(X)


def test_a_function_reconstructs_only_with_a_decoder() -> None:
    with pytest.raises(InputError, match="give CallableCoder a decode= function"):
        CallableCoder(signs, d_in=12, width=2).reconstruct(X)
    coder = CallableCoder(signs, d_in=12, width=2, decode=lambda code, x: x * len(code.values))
    assert torch.equal(coder.reconstruct(X), X * 20)
    assert coder.settings.reconstructs


def test_two_functions_do_not_share_a_cache() -> None:
    def of(function: Any, **more: Any) -> Any:
        return CallableCoder(function, d_in=12, width=2, **more).encoding_facts()

    assert of(signs) == of(signs)
    assert of(signs) != of(signs, version="2")
    assert of(signs) != of(lambda x: x[:, :2])
