"""Failures of a run by stage and kind, each with its count and its first message: one line of text per kind.

The first message is the first in the order of the texts, so that it does not depend on which answer came first.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sae_auto_interp.types import Failure

MESSAGE_CHARACTERS = 300
"""A longer message is cut in the line."""


@dataclass(frozen=True, slots=True)
class FailureKind:
    """All failures of one stage and kind."""

    stage: str
    kind: str
    n: int
    message: str

    @property
    def line(self) -> str:
        """`12 × explain refused_request: the server's words`; not made harmless for a terminal."""
        return f"{self.n:,} × {self.stage} {self.kind}: {in_short(self.message)}"


def failure_kinds(failures: Iterable[Failure]) -> tuple[FailureKind, ...]:
    """One entry per stage and kind, the most frequent first."""
    counts: dict[tuple[str, str], int] = {}
    first: dict[tuple[str, str], str] = {}
    for failure in failures:
        key = (failure.stage, failure.kind)
        counts[key] = counts.get(key, 0) + 1
        first[key] = min(first.get(key, failure.message), failure.message)
    found = [FailureKind(stage, kind, n, first[stage, kind]) for (stage, kind), n in counts.items()]
    return tuple(sorted(found, key=lambda each: (-each.n, each.stage, each.kind)))


def in_short(message: str) -> str:
    """The message on one line, cut where it is long."""
    whole = " ".join(message[: 8 * MESSAGE_CHARACTERS].split())
    return whole if len(whole) <= MESSAGE_CHARACTERS else f"{whole[: MESSAGE_CHARACTERS - 1].rstrip()}…"
