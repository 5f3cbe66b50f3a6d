"""The types of stored numbers: safetensors' codes, what holds them in memory, and how activations are rounded.

numpy has no bfloat16. Such values are held as the 16 upper bits of a float32, in uint16.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt16, UInt32

from sae_auto_interp.errors import CacheError, InputError
from sae_auto_interp.types import Array

HELD_AS: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(np.uint16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
} | {
    f"{letter}{bits}": np.dtype(f"{kind}{bits}")
    for letter, kind in (("I", "int"), ("U", "uint"))
    for bits in (8, 16, 32, 64)
}
"""What holds an array of each safetensors type."""
CODE_OF = {dtype: code for code, dtype in HELD_AS.items() if code != "BF16"}
ACTIVATION_CODES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}
"""`activation_dtype` of a manifest -> type of the `activations` in its files."""
_INFINITY_BITS = {"float16": 0x7C00, "bfloat16": 0x7F80, "float32": 0x7F800000}


def activation_code(dtype: str) -> str:
    """The safetensors type of stored activations; raises `InputError` for a type that activations cannot have."""
    if dtype not in ACTIVATION_CODES:
        raise InputError(f"activation_dtype={dtype!r}; give one of {', '.join(ACTIVATION_CODES)}")
    return ACTIVATION_CODES[dtype]


def stored(activations: Float[Array, " n"], dtype: str) -> Array:
    """Activations as they are held on disk: rounded to the nearest, ties to even, but for the two ends.

    What becomes infinite is refused with `CacheError`; what vanishes is kept as the smallest number there is.
    For bfloat16, float64 is rounded to float32 first, as torch does.
    """
    with np.errstate(over="ignore", under="ignore"):
        narrow = _to_bfloat16(activations) if dtype == "bfloat16" else activations.astype(dtype)
    size = narrow.view(np.uint32 if narrow.itemsize == 4 else np.uint16) & (_sign_bit(narrow) - 1)
    if len(size) and size.max() >= _INFINITY_BITS[dtype]:
        raise _overflow(activations, dtype)
    if len(size) and size.min() == 0:
        vanished = (size == 0) & (activations != 0)
        smallest = np.signbit(activations[vanished]) * _sign_bit(narrow) + 1
        narrow.view(size.dtype)[vanished] = smallest
    return narrow


def as_float32(held: Array, code: str) -> Float32[Array, " n"]:
    """Stored activations as numbers, in memory of their own."""
    if code == "BF16":
        return (held.astype(np.uint32) << 16).view(np.float32)
    return held.astype(np.float32)


def _to_bfloat16(activations: Float[Array, " n"]) -> UInt16[Array, " n"]:
    """Round to nearest even by adding just under half of the last kept bit; NaN stays NaN."""
    bits: UInt32[Array, " n"] = activations.astype(np.float32, copy=False).view(np.uint32)
    rounded = bits >> 16
    rounded &= 1
    rounded += 0x7FFF
    rounded += bits
    rounded >>= 16
    narrow = rounded.astype(np.uint16)
    is_nan = np.isnan(activations)
    if is_nan.any():
        narrow[is_nan] = 0x7FC0
    return narrow


def _sign_bit(held: Array) -> int:
    return 1 << (8 * held.itemsize - 1)


def _overflow(activations: Float[Array, " n"], dtype: str) -> CacheError:
    largest = float(np.abs(activations).max())
    if not np.isfinite(largest):
        return CacheError(f"an activation is {largest}: the subject model or an autoencoder overflows")
    return CacheError(f"an activation of {largest:.6g} does not fit {dtype}; set activation_dtype to float32")
