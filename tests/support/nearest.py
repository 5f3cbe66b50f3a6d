"""Nearest features as plain lists, and the order that they must be in."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float32, Int64

from sae_auto_interp.types import Array


def lists(found: tuple[Int64[Array, "m n"], Float32[Array, "m n"]]) -> list[list[tuple[int, float]]]:
    """(index, value) of each feature's neighbours, without what fills them up."""
    return [
        [(int(i), float(v)) for i, v in zip(row, values, strict=True) if i >= 0]
        for row, values in zip(*found, strict=True)
    ]


def ranked(values: Mapping[int, float], n: int) -> list[tuple[int, float]]:
    """The definition of an order: larger value first, and of equal ones the lower index."""
    return sorted(values.items(), key=lambda item: (-item[1], item[0]))[:n]


def random_vectors(width: int, d: int, seed: int = 0) -> Float32[Array, "width d"]:
    """Normally distributed rows."""
    return np.random.default_rng(seed).standard_normal((width, d)).astype(np.float32)
