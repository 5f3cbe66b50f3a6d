"""Stored activations: numpy's float16 and torch's bfloat16, but that nothing becomes infinite and nothing vanishes."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays

from sae_auto_interp.cache.value_types import ACTIVATION_CODES, activation_code, as_float32, stored
from sae_auto_interp.errors import CacheError, InputError

LARGEST_BFLOAT16 = 3.3895313892515355e38
SMALLEST = {"float16": 2.0**-24, "bfloat16": 2.0**-133, "float32": 2.0**-149}
SINGLE = arrays(np.float32, st.integers(0, 40), elements=st.floats(-65_504, 65_504, width=32))


def kept(values: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    return as_float32(stored(values, dtype), ACTIVATION_CODES[dtype])


@given(SINGLE)
def test_stored_values_are_numpys_and_torchs(values: np.ndarray[Any, Any]) -> None:
    torchs = torch.from_numpy(values).to(torch.bfloat16).float().numpy()
    for dtype, expected in (("float16", values.astype(np.float16)), ("bfloat16", torchs), ("float32", values)):
        found, vanished = kept(values, dtype), (expected == 0) & (values != 0)
        np.testing.assert_array_equal(found[~vanished], expected[~vanished].astype(np.float32))
        np.testing.assert_array_equal(found[vanished], np.copysign(SMALLEST[dtype], values[vanished]))
        np.testing.assert_array_equal(np.sign(found), np.sign(values))


def test_every_bfloat16_comes_back_as_it_is_and_what_lies_between_goes_to_the_nearer() -> None:
    bits = np.arange(1, 0x7F7F, dtype=np.uint32)
    below, above = ((bits + one << 16).view(np.float32) for one in (0, 1))
    assert stored(below, "bfloat16").tolist() == bits.tolist()
    middle = (bits << 16 | 0x8000).view(np.float32)
    just_below, just_above = np.nextafter(middle, below), np.nextafter(middle, above)
    np.testing.assert_array_equal(kept(just_below, "bfloat16"), below)
    np.testing.assert_array_equal(kept(just_above, "bfloat16"), above)
    assert stored(middle, "bfloat16").tolist() == [b + b % 2 for b in bits.tolist()], "ties go to the even one"


@pytest.mark.parametrize("source", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("dtype", list(ACTIVATION_CODES))
def test_any_floating_type_may_come_in(source: Any, dtype: str) -> None:
    values = np.array([0.0, 1.0, -2.5, 3.140625], dtype=source)
    assert kept(values, dtype).tolist() == values.tolist()
    assert len(stored(values[:0], dtype)) == 0


def test_only_what_becomes_infinite_is_too_large() -> None:
    assert kept(np.array([65_519.0], np.float32), "float16").tolist() == [65_504.0]
    assert kept(np.array([3.39e38], np.float32), "bfloat16").tolist() == [LARGEST_BFLOAT16]
    for dtype, value in (("float16", 65_520.0), ("bfloat16", 3.4e38)):
        with pytest.raises(CacheError, match=rf"an activation of {value:.6g}.* does not fit {dtype}".replace("+", ".")):
            stored(np.array([1.0, value], np.float32), dtype)
    for dtype in ACTIVATION_CODES:
        for value in (np.inf, -np.inf, np.nan):
            message = f"an activation is {abs(value)}: the subject model or an autoencoder overflows"
            with pytest.raises(CacheError, match=message):
                stored(np.array([value, 1.0], np.float32), dtype)


def test_other_types_are_refused() -> None:
    with pytest.raises(InputError, match="activation_dtype='int8'; give one of float16, bfloat16, float32"):
        activation_code("int8")
