"""Directories that the families' own packages wrote are read and encoded here as they were there.

What they hold, and which versions of the packages made it: `written_by_*/make.py`. Among the inputs are huge, tiny,
constant and all-zero ones; the cases of whole numbers have ties, zeros and values at thresholds without any rounding.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sae_auto_interp.autoencoders.families import saelens, sparsify
from sae_auto_interp.autoencoders.sparse_coder import SparseCoder

HERE = Path(__file__).parent
SAE_LENS = sorted(p.parent for p in HERE.glob("written_by_sae_lens/*/cfg.json"))
SPARSIFY = sorted(p.parent for p in HERE.glob("written_by_sparsify/*/cfg.json"))
CASES = [*SAE_LENS, *SPARSIFY]


def read(directory: Path) -> SparseCoder:
    return (saelens if directory in SAE_LENS else sparsify).read(directory)


def name_of(directory: Path) -> str:
    return f"{directory.parent.name.removeprefix('written_by_')}-{directory.name}"


def test_every_case_was_found() -> None:
    assert (len(SAE_LENS), len(SPARSIFY)) == (40, 13)


@pytest.mark.parametrize("directory", CASES, ids=name_of)
def test_the_same_features_fire_with_the_same_values(directory: Path) -> None:
    expected = load_file(directory / "expected.safetensors")
    coder = read(directory)
    code = coder.encode(expected["x"])
    order = np.lexsort((code.features.numpy(), code.positions.numpy()))
    original = np.lexsort((expected["columns"].numpy(), expected["rows"].numpy()))
    assert len(order) == len(original) > 0
    assert np.array_equal(code.positions.numpy()[order], expected["rows"].numpy()[original])
    assert np.array_equal(code.features.numpy()[order], expected["columns"].numpy()[original])
    scale = row_scale(code.positions, code.values)[order]
    difference = np.abs(code.values.numpy()[order] - expected["values"].numpy()[original])
    assert (difference <= 1e-5 * scale).all(), (difference / scale).max()


@pytest.mark.parametrize("directory", CASES, ids=name_of)
def test_the_reconstruction_is_the_same(directory: Path) -> None:
    expected = load_file(directory / "expected.safetensors")
    found = read(directory).reconstruct(expected["x"])
    difference = (found - expected["out"]).abs().amax(dim=1)
    scale = torch.maximum(expected["out"].abs().amax(dim=1), expected["x"].abs().amax(dim=1))
    assert (difference <= 1e-5 * scale.clamp(min=1)).all(), float((difference / scale).max())


@pytest.mark.parametrize("directory", CASES, ids=name_of)
def test_a_selection_of_features_is_encoded_as_among_all(directory: Path) -> None:
    expected = load_file(directory / "expected.safetensors")
    coder = read(directory)
    chosen = torch.arange(0, coder.width, 3)
    code = coder.encoder(chosen).encode(expected["x"])
    dense = coder.densified(code, len(expected["x"]))[:, chosen]
    assert torch.allclose(dense, coder(expected["x"])[:, chosen], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["sparsify-topk_whole", "sae_lens-topk_whole", "sae_lens-topk_rescaled_whole", "sae_lens-abstopk_whole"]
)
def test_ties_at_the_last_place_are_common_in_the_whole_numbers(name: str) -> None:
    """So that equal indices above mean that ties are broken alike."""
    family, _, case = name.partition("-")
    directory = HERE / f"written_by_{family}" / case
    coder, x = read(directory), load_file(directory / "expected.safetensors")["x"]
    pre = (x - coder.b_dec) @ coder.w_enc.T + coder.b_enc
    pre = pre if coder.scale is None else pre * coder.scale
    pre = pre.abs() if "abs" in name else pre
    best = pre.sort(dim=1, descending=True).values
    k = coder.settings.k or 0
    assert ((best[:, k - 1] == best[:, k]) & (best[:, k] > 0)).sum() > (2 if coder.scale is None else 0)


def row_scale(positions: torch.Tensor, values: torch.Tensor) -> np.ndarray:
    """The largest value of each entry's row: what rounding is measured by."""
    largest = torch.zeros(int(positions.max()) + 1).scatter_reduce(0, positions, values.abs(), "amax")
    return largest[positions].numpy()


def test_claims_are_those_of_the_files() -> None:
    claims = saelens.read(HERE / "written_by_sae_lens" / "topk").settings.claims
    assert (claims.model, claims.hook, claims.ctx_len) == ("tiny", "blocks.1.hook_resid_post", 64)
    assert (claims.dataset, claims.l0) == ("texts", 2.0)
    flat = saelens.read(HERE / "written_by_sae_lens" / "flat_standard").settings
    assert (flat.claims.model, flat.claims.hook, flat.claims.l0) == ("tiny", "blocks.1.hook_mlp_out", None)
    assert flat.prepend_bos
