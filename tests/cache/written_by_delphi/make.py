"""Writes the files beside it with delphi's own writer; run it in an environment that has eai-delphi 0.1.3.

    python tests/cache/written_by_delphi/make.py

What is put in is drawn here and listed in expected.json, so that the tests do not take delphi's word for it.
"""

import json
from pathlib import Path

import numpy as np
import torch
from delphi.config import CacheConfig  # pyright: ignore[reportMissingImports]
from delphi.latents import LatentCache  # pyright: ignore[reportMissingImports]

HERE = Path(__file__).parent
N_ROWS, CTX_LEN, BATCH = 8, 12, 4


def dense(rng: np.random.Generator, width: int, firing: int) -> np.ndarray:
    """[rows, ctx_len, width] with `firing` features in a hundred above zero, a few below it and some dead."""
    values = rng.lognormal(0, 1, (N_ROWS, CTX_LEN, width)) * (rng.random((N_ROWS, CTX_LEN, width)) * 100 < firing)
    values[rng.random(values.shape) < 0.002] = -0.5
    values[..., 1] = 0
    values[-1, -1, -1] = 3.25
    return values.astype(np.float32)


def write(root: Path, module: str, latents: np.ndarray, tokens: np.ndarray, n_splits: int, **options: bool) -> None:
    cache = LatentCache(torch.nn.Identity(), {module: abs}, batch_size=BATCH)
    for number, first in enumerate(range(0, N_ROWS, BATCH)):
        rows = slice(first, first + BATCH)
        cache.cache.add(torch.from_numpy(latents[rows]), torch.from_numpy(tokens[rows]), number, module)
    cache.cache.save()
    cache.width = latents.shape[2]
    cache.save_splits(n_splits, root, **options)
    cache.save_config(root, CacheConfig(dataset_repo="some/texts", cache_ctx_len=CTX_LEN), "some/model")


def listed(latents: np.ndarray) -> list[list[float]]:
    places = np.argwhere(np.abs(latents) > 1e-5)
    values = latents[tuple(places.T)].astype(np.float16)
    return [[*map(int, place), float(value)] for place, value in zip(places, values, strict=True)]


def main() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 200_000, (N_ROWS, CTX_LEN))
    expected = {"tokens": tokens.tolist(), "widths": {}, "entries": {}}
    modules = {
        "layers.1": (dense(rng, 10, 8), "latents", 3, True),
        "layers.10": (dense(rng, 7, 8), "latents", 2, True),
        "wide": (dense(rng, 70_000, 0), "latents", 1, True),
        "layers.2": (dense(rng, 10, 8), "without_tokens", 3, False),
    }
    modules["wide"][0][...] = 0
    modules["wide"][0][[0, 3, 7], [1, 2, 3], [3, 65_536, 69_999]] = [1.5, 2.5, 0.125]
    for module, (latents, folder, n_splits, save_tokens) in modules.items():
        write(HERE / folder, module, latents, tokens, n_splits, save_tokens=save_tokens)
        expected["widths"][module] = latents.shape[2]
        expected["entries"][module] = listed(latents)
    (HERE / "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main()
