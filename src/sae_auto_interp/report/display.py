"""Values as short text, the same in the terminal and on the page."""

from sae_auto_interp.types import Estimate
from sae_auto_interp.visible_text import visible as visible

UNDEFINED = "–"


def shorten(text: str, length: int) -> str:
    """At most `length` characters, the last one an ellipsis where something was cut."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def number(value: float | None, *, signed: bool = False) -> str:
    """Two decimals; a zero has no sign."""
    if value is None:
        return UNDEFINED
    text = f"{value:+.2f}" if signed else f"{value:.2f}"
    return "0.00" if float(text) == 0.0 else text.replace("-", "−")


def interval(estimate: Estimate, *, signed: bool = False) -> str:
    """`[0.75, 0.89]`, or nothing where there is no interval."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"[{number(estimate.low, signed=signed)}, {number(estimate.high, signed=signed)}]"


def with_interval(estimate: Estimate, *, signed: bool = False) -> str:
    """`0.83 [0.75, 0.89]`; a dash for an undefined estimate."""
    return f"{number(estimate.value, signed=signed)} {interval(estimate, signed=signed)}".rstrip()


def significant(value: float) -> str:
    """Three significant digits without an exponent where that stays short."""
    return f"{value:.3g}" if 1e-4 <= abs(value) < 1e5 or value == 0 else f"{value:.1e}"


def percent(fraction: float) -> str:
    """A share in percent with two significant digits, e.g. 0.013 % or 4.2 %."""
    return f"{100 * fraction:.2g} %"


def share_interval(estimate: Estimate) -> str:
    """`[0.35 %, 0.47 %]`, or nothing where there is no interval."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"[{percent(estimate.low)}, {percent(estimate.high)}]"


def share(estimate: Estimate) -> str:
    """`0.41 % [0.35 %, 0.47 %]`; a dash for an undefined estimate."""
    value = UNDEFINED if estimate.value is None else percent(estimate.value)
    return f"{value} {share_interval(estimate)}".rstrip()


def behind(estimate: Estimate) -> str:
    """What a number rests on: `n = 50, 2 failed; Wilson`, and why it or its interval is missing."""
    failed = f", {estimate.n_failed:,} failed" if estimate.n_failed else ""
    reason = f"; {visible(estimate.reason)}" if estimate.reason else ""
    return f"n = {estimate.n:,}{failed}; {estimate.method}{reason}"


def two_lines(estimate: Estimate, *, signed: bool = False) -> str:
    """The value above its interval: half as wide, so that a table fits a terminal."""
    return f"{number(estimate.value, signed=signed)}\n{interval(estimate, signed=signed)}".rstrip()
