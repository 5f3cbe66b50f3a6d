"""Every family's files encode and decode as their published formula says, and are written as they are read."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from sae_auto_interp.autoencoders.families import openai, saelens, sparsify as sparsify_files
from sae_auto_interp.autoencoders.settings import CoderClaims, CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.errors import WeightsError
from tests.autoencoders import families
from tests.autoencoders.families import ALL, ALL_OTHERS, D_IN, WIDTH, Weights, Written, random_weights

Write = Callable[[Path, Weights], Written]


def read(written: Written) -> SparseCoder:
    if written.path.suffix == ".pt":
        return openai.read(written.path)
    reader = sparsify_files if (written.path / "sae.safetensors").exists() else saelens
    return reader.read(written.path)


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    """To 1e-5 of the largest value."""
    return bool(np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max())


def inputs(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, D_IN), scale=2).astype(np.float32)


@pytest.mark.parametrize("write", ALL)
def test_codes_are_those_of_the_published_formula(write: Write, tmp_path: Path) -> None:
    written = write(tmp_path, random_weights())
    x = inputs(64)
    expected = written.encode(x)
    code = read(written).encode(torch.tensor(x))
    found = np.zeros_like(expected)
    found[code.positions, code.features] = code.values
    assert 64 < len(code.values) < 0.8 * expected.size
    assert np.array_equal(found > 0, expected > 0)
    assert close(found, expected)


@pytest.mark.parametrize("write", ALL)
def test_reconstructions_are_those_of_the_published_formula(write: Write, tmp_path: Path) -> None:
    written = write(tmp_path, random_weights())
    x = inputs(64)
    codes = written.encode(x)
    found = read(written).decode(torch.tensor(codes, dtype=torch.float32), torch.tensor(x))
    assert close(found.numpy(), written.decode(codes, x))


@pytest.mark.parametrize("write", [families.openai_topk, families.saelens_topk])
def test_the_epsilon_of_the_norm_counts_for_small_inputs(write: Write, tmp_path: Path) -> None:
    written = write(tmp_path, random_weights())
    x = inputs(64) * np.float32(2e-5)
    codes = written.encode(x)
    assert not close(codes, written.encode(x * 1000)), "the input is small enough for the epsilon to matter"
    assert close(read(written)(torch.tensor(x)).numpy(), codes)
    found = read(written).decode(torch.tensor(codes, dtype=torch.float32), torch.tensor(x)).numpy()
    assert close(found, written.decode(codes, x))


@pytest.mark.parametrize("write", ALL_OTHERS)
def test_values_at_zero_and_at_the_threshold_are_silent(write: Write, tmp_path: Path) -> None:
    """Whole numbers: what is exactly 0, or exactly the threshold, is common and computed without rounding."""
    written = write(tmp_path, random_weights(whole_numbers=True))
    x = np.random.default_rng(2).integers(-2, 3, (200, D_IN)).astype(np.float32)
    pre = families.pre_activations(written.weights, x, subtract=write is not families.saelens_without_input_bias)
    assert (pre == 0).sum() > 100
    assert (pre == written.weights.threshold).sum() > 100
    coder = read(written)
    assert np.array_equal(coder(torch.tensor(x)).numpy(), written.encode(x))
    assert len(coder.encode(torch.tensor(x)).values) == (written.encode(x) > 0).sum()


@pytest.mark.parametrize("write", [families.sparsify, families.flat_topk])
def test_fewer_than_k_are_kept_where_fewer_are_above_zero(write: Write, tmp_path: Path) -> None:
    w = random_weights()
    written = write(tmp_path, Weights(w.w_enc, w.b_enc - 6, w.w_dec, w.b_dec, w.threshold))
    x = inputs(64)
    expected = written.encode(x)
    assert (expected > 0).sum(axis=1).min() < families.K
    assert np.array_equal(read(written)(torch.tensor(x)).numpy() > 0, expected > 0)
    assert close(read(written)(torch.tensor(x)).numpy(), expected)


@pytest.mark.parametrize("write", ALL)
def test_weights_of_half_precision_are_read(write: Write, tmp_path: Path) -> None:
    w = random_weights()
    halved = Weights(*(getattr(w, field.name).astype(np.float16) for field in fields(w)))
    for name in ("halved", "exact"):
        (tmp_path / name).mkdir()
    coder, x = read(write(tmp_path / "halved", halved)), inputs(64)
    assert {value.dtype for value in coder.state_dict().values()} == {torch.float32}
    exact = Weights(*(getattr(halved, field.name).astype(np.float32) for field in fields(w)))
    expected = write(tmp_path / "exact", exact)
    assert close(coder(torch.tensor(x)).numpy(), expected.encode(x))
    assert close(coder.reconstruct(torch.tensor(x)).numpy(), expected.decode(expected.encode(x), x))


@pytest.mark.parametrize("write", ALL)
def test_what_a_coder_says_of_itself(write: Write, tmp_path: Path) -> None:
    written = write(tmp_path, random_weights())
    coder = read(written)
    assert (coder.d_in, coder.width) == (D_IN, WIDTH)
    assert coder.settings.source == str(written.path)
    assert coder.settings.side == "output"
    assert coder.settings.prepend_bos == (coder.settings.family == "saelens")


def canonical(**changes: torch.Tensor) -> CoderWeights:
    w = random_weights()
    tensors = {field.name: torch.tensor(getattr(w, field.name)) for field in fields(w)}
    return CoderWeights(**tensors | changes)


def assert_same(coder: SparseCoder, weights: CoderWeights) -> None:
    for name, value in coder.state_dict().items():
        assert torch.equal(value, getattr(weights, name)), name


def test_openai_weights_are_read_as_they_were_saved(tmp_path: Path) -> None:
    weights = canonical()
    openai.save(tmp_path / "new" / "2.pt", weights, k=7)
    coder = openai.read(tmp_path / "new" / "2.pt")
    assert_same(coder, weights)
    assert (coder.settings.activation, coder.settings.k, coder.settings.normalisation) == ("topk", 7, "layer_norm")
    assert coder.threshold is None


def test_sparsify_weights_are_read_as_they_were_saved(tmp_path: Path) -> None:
    weights = canonical()
    sparsify_files.save(tmp_path / "layers.1.mlp", weights, k=7)
    coder = sparsify_files.read(tmp_path / "layers.1.mlp")
    assert_same(coder, weights)
    assert (coder.settings.activation, coder.settings.k, coder.settings.normalisation) == ("topk", 7, "none")


def test_saelens_weights_are_read_as_they_were_saved(tmp_path: Path) -> None:
    weights = canonical()
    metadata = {"hook_name": "blocks.0.hook_mlp_out", "prepend_bos": False}
    saelens.save_jumprelu(tmp_path / "mlp_0", weights, metadata)
    coder = saelens.read(tmp_path / "mlp_0")
    assert_same(coder, weights)
    assert coder.settings == CoderSettings(
        activation="jumprelu", family="saelens", source=str(tmp_path / "mlp_0"), prepend_bos=False,
        claims=CoderClaims(hook="blocks.0.hook_mlp_out"),
    )  # fmt: skip
    with pytest.raises(WeightsError, match="needs thresholds"):
        saelens.save_jumprelu(
            tmp_path / "x", CoderWeights(weights.w_enc, weights.b_enc, weights.w_dec, weights.b_dec), {}
        )


@pytest.mark.parametrize("save", ["openai", "sparsify", "saelens"])
def test_what_is_saved_is_in_the_familys_own_layout(save: str, tmp_path: Path) -> None:
    """The files, read by hand, hold what the writers of `families` put there."""
    weights, w = canonical(), random_weights()
    if save == "openai":
        openai.save(tmp_path / "3.pt", weights, families.K)
        saved = torch.load(tmp_path / "3.pt", weights_only=True)
        families.openai_topk(tmp_path, w)
        original = torch.load(tmp_path / "3.pt", weights_only=True)
        assert saved["activation_state_dict"] == original["activation_state_dict"]
    else:
        from safetensors.torch import load_file

        own, family = tmp_path / "own", tmp_path / "family"
        family.mkdir()
        if save == "sparsify":
            sparsify_files.save(own, weights, families.K)
            saved, original = (
                load_file(own / "sae.safetensors"),
                load_file(families.sparsify(family, w).path / "sae.safetensors"),
            )
        else:
            saelens.save_jumprelu(own, weights, {})
            written = families.saelens_jumprelu(family, w)
            saved, original = (
                load_file(own / "sae_weights.safetensors"),
                load_file(written.path / "sae_weights.safetensors"),
            )
        assert set(saved) == set(original)
    tensors = {name: value for name, value in saved.items() if isinstance(value, torch.Tensor)}
    assert len(tensors) >= 4
    assert all(torch.equal(value, original[name]) for name, value in tensors.items())
