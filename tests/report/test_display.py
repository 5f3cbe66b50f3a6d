"""Numbers and untrusted text as a reader sees them."""

import pytest

from sae_auto_interp.report.display import interval, number, percent, shorten, significant, visible, with_interval
from sae_auto_interp.types import Estimate


def estimate(value: float | None, low: float | None = None, high: float | None = None) -> Estimate:
    return Estimate(value, low, high, 0.95, "test", 10, 0)


def test_estimates() -> None:
    assert with_interval(estimate(0.834, 0.75, 0.889)) == "0.83 [0.75, 0.89]"
    assert with_interval(estimate(0.27, -0.021, 0.36), signed=True) == "+0.27 [−0.02, +0.36]"
    assert with_interval(estimate(0.9)) == "0.90"
    assert with_interval(estimate(None)) == "–"
    assert interval(estimate(None)) == ""
    assert number(-0.001, signed=True) == number(0.001, signed=True) == number(-0.001) == "0.00"


def test_quantities() -> None:
    assert [significant(v) for v in (0.0, 12.345, 0.01234, 123456.0, 1e-7)] == [
        "0",
        "12.3",
        "0.0123",
        "1.2e+05",
        "1.0e-07",
    ]
    assert [percent(v) for v in (0.0, 0.00013, 0.042, 0.95)] == ["0 %", "0.013 %", "4.2 %", "95 %"]
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abc def", 5) == "abc…"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\r\n\tc", "a↵b␍↵⇥c"),
        ("\x00\x1b[31m\x7f\x9b", "␀␛[31m␡\ufffd"),
        ("\u202eevil\u2066", "⟨U+202E⟩evil⟨U+2066⟩"),
        ("\ud83d", "\ufffd"),
        ("\u2028", "↵"),
        ("naïve 😀 の <b>", "naïve 😀 の <b>"),
    ],
)
def test_what_cannot_be_seen_is_shown_as_a_sign(text: str, shown: str) -> None:
    assert visible(text) == shown
    visible(text).encode("utf-8")
