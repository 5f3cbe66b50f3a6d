"""Thresholds and precisions where rounding would show: values exactly at a threshold, bfloat16 files, huge norms."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sae_auto_interp.autoencoders.families import gemma_scope, openai
from tests.autoencoders import (
    families,
    families_scopes as scopes,
    test_families as first_families,
    test_more_families as more_families,
)
from tests.autoencoders.families import WIDTH, Weights, Written, random_weights
from tests.autoencoders.test_more_families import assert_same_codes, inputs

Write = Callable[[Path, Weights], Written]


def whole(n: int, d: int) -> np.ndarray:
    return np.random.default_rng(2).integers(-2, 3, (n, d)).astype(np.float32)


def with_exact_norms() -> Weights:
    """Decoder rows of one entry, so their norms are powers of two; every threshold that is saved is 1."""
    w = random_weights(whole_numbers=True)
    w_dec = np.zeros_like(w.w_dec)
    w_dec[np.arange(WIDTH), np.arange(WIDTH) % w_dec.shape[1]] = 2.0 ** (np.arange(WIDTH) % 3 - 1)
    return replace(w, w_dec=w_dec, threshold=np.full(WIDTH, 0.5, np.float32))


@pytest.mark.parametrize(
    "write", [scopes.llama_scope_with_decoder_norm, scopes.llama_scope_r1, scopes.openmoss_jump_relu]
)
def test_what_is_exactly_at_a_threshold_is_silent_whatever_it_was_scaled_by(write: Write, tmp_path: Path) -> None:
    written = write(tmp_path, with_exact_norms())
    coder, x = more_families.read(write, written), whole(300, families.D_IN)
    assert coder.threshold is not None
    pre = torch.tensor(x) @ coder.w_enc.T + coder.b_enc
    assert (pre == coder.threshold).sum() > 100
    assert_same_codes(coder(torch.tensor(x)).numpy(), written.encode(x))


def test_what_is_exactly_at_the_threshold_of_an_embedding_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(families, "D_IN", 16)  # whose root is a whole number
    w = random_weights(whole_numbers=True)
    written = scopes.gemma_scope_embedding(tmp_path, w)
    x = 4 * whole(300, 16)
    pre = x / 4 @ w.w_enc.T + w.b_enc
    assert ((pre == w.threshold) & (pre > 0)).sum() > 100
    assert_same_codes(gemma_scope.read(written.path)(torch.tensor(x)).numpy(), written.encode(x))


@pytest.mark.parametrize("write", [families.openai_relu, families.openai_topk])
@pytest.mark.parametrize("scale", [1e6, 1e12])
def test_openais_coders_encode_enormous_activations(write: Write, scale: float, tmp_path: Path) -> None:
    written = write(tmp_path, random_weights())
    x = inputs(64, scale)[1:]
    assert_same_codes(openai.read(written.path)(torch.tensor(x)).numpy(), written.encode(x))


def converted(folder: Path, dtypes: tuple[torch.dtype, ...]) -> None:
    """Every tensor of floating-point numbers below `folder`, through the given types in turn."""

    def convert(state: dict[str, Any]) -> None:
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                for dtype in dtypes:
                    state[name] = state[name].to(dtype)

    for file in folder.rglob("*"):
        if file.suffix in (".pt", ".pth", ".safetensors"):
            more_families.resaved(file, convert)


@pytest.mark.parametrize("write", [*families.ALL, *more_families.READERS])
def test_a_bfloat16_file_is_read_as_the_same_numbers_in_float32(write: Write, tmp_path: Path) -> None:
    coders = []
    for name, dtypes in (("half", (torch.bfloat16,)), ("exact", (torch.bfloat16, torch.float32))):
        (tmp_path / name).mkdir()
        written = write(tmp_path / name, random_weights())
        converted(tmp_path / name, dtypes)
        is_first = write in families.ALL
        coders.append(first_families.read(written) if is_first else more_families.read(write, written))
    x = torch.tensor(inputs(64))
    assert torch.equal(coders[0](x), coders[1](x))
    assert torch.equal(coders[0].reconstruct(x), coders[1].reconstruct(x))
