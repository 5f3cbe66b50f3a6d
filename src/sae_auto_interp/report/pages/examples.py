"""Examples -> what the page prints: runs of plain text and of marked tokens, and which examples to show.

A token is marked when the feature fires on it, the more strongly the closer to the feature's maximum over the whole
cache, so that marks can be compared between examples. Tokens that would be invisible are shown as signs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sae_auto_interp.report.display import significant, visible
from sae_auto_interp.types import Example, FeatureRecord

MAX_TRAIN, MAX_TEST, MAX_SILENT = 8, 8, 4


@dataclass(frozen=True, slots=True)
class Run:
    """A marked token, or the plain text between two."""

    text: str
    intensity: float | None = None
    """Activation as a fraction of the feature's maximum, 0 to 1; None for plain text."""
    value: str = ""


@dataclass(frozen=True, slots=True)
class ShownWindow:
    """One example as the page shows it."""

    runs: tuple[Run, ...]
    peak: str
    quantile: int | None
    source: str


@dataclass(frozen=True, slots=True)
class Section:
    """Some of the examples of one kind."""

    title: str
    note: str
    windows: tuple[ShownWindow, ...]
    n_all: int


def sections(record: FeatureRecord) -> tuple[Section, ...]:
    """Train and test apart, then windows on which the feature is silent."""
    peak = max((e.max_activation for e in (*record.train, *record.test)), default=0.0)
    scale = max(record.stats.max_activation, peak)
    kinds = (
        ("Train", "may be shown to the explainer", record.train, MAX_TRAIN),
        ("Test", "used for scoring only", record.test, MAX_TEST),
        ("Silent", "the feature does not fire; used for scoring", record.non_activating.test, MAX_SILENT),
    )
    return tuple(
        Section(title, note, tuple(_window(e, scale) for e in spread(examples, limit)), len(examples))
        for title, note, examples, limit in kinds
    )


def spread(examples: Sequence[Example], limit: int) -> list[Example]:
    """At most `limit` examples, strongest first, evenly over the whole range of strength."""
    ordered = sorted(examples, key=lambda example: -example.max_activation)
    if len(ordered) <= limit:
        return ordered
    return [ordered[i] for i in np.linspace(0, len(ordered) - 1, limit).round().astype(int).tolist()]


def _window(example: Example, scale: float) -> ShownWindow:
    peak = significant(example.max_activation) if example.max_activation > 0 else ""
    return ShownWindow(_without_first_space(tuple(_runs(example, scale))), peak, example.quantile, example.source)


def _without_first_space(runs: tuple[Run, ...]) -> tuple[Run, ...]:
    """Plain text starts at the margin; only the display loses the space before its first word."""
    if not runs or runs[0].intensity is not None:
        return runs
    return (Run(runs[0].text.removeprefix(" ")), *runs[1:])


def _runs(example: Example, scale: float) -> Iterator[Run]:
    plain: list[str] = []
    for token, value in zip(example.str_tokens, example.activations.tolist(), strict=True):
        if value <= 0:
            plain.append(token)
            continue
        if plain:
            yield Run(visible("".join(plain)))
            plain.clear()
        yield Run(marked_text(token), round(min(1.0, value / scale), 2), significant(value))
    if plain:
        yield Run(visible("".join(plain)))


def marked_text(token: str) -> str:
    """A marked token of nothing but spaces, or of nothing, must still be seen."""
    if not token:
        return "∅"
    return visible(token) if token.strip(" ") else "␣" * len(token)
