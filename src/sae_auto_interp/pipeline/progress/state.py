"""How far each stage is, how fast, and what failed: the numbers behind every display.

What the stages of a run say while several of them are on at once.
"""

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sae_auto_interp.pipeline.clients.request_counts import RequestCounts
from sae_auto_interp.protocols import Progress


@dataclass(slots=True)
class StageState:
    """One stage, since this process took it up."""

    name: str
    unit: str
    total: int
    done: int
    done_before: int
    began: float
    failures: Counter[str] = field(default_factory=Counter[str])
    is_finished: bool = False

    def rate(self, now: float) -> float:
        """Units per second of this process; 0 before the first one."""
        return (self.done - self.done_before) / max(now - self.began, 1e-9)

    def seconds_left(self, now: float) -> float | None:
        """None where nothing is done yet, or nothing left to do."""
        rate = self.rate(now)
        return (self.total - self.done) / rate if rate and self.done < self.total else None

    @property
    def n_failed(self) -> int:
        return self.failures.total()

    @property
    def failed(self) -> str:
        """How many failed, and of what: `3 failed (2 timeout, 1 unparsable)`."""
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in sorted(self.failures.items()))
        return f"{self.n_failed:,} failed ({kinds})" if kinds else ""


class ProgressState(ABC):
    """Base of all displays: keeps the numbers and calls `shown_*` when they change."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.stages: dict[str, StageState] = {}
        self.request_counts: RequestCounts | None = None
        """Set when there is a language model."""
        self._current = ""

    def start(self, stage: str, total: int, done: int, unit: str) -> None:
        self._current = stage
        self.stages[stage] = StageState(stage, unit, total, done, done, self.clock())
        self.shown_start(self.stages[stage])

    def advance(self, n: int = 1) -> None:
        self._moved(self.stages[self._current], n)

    def finish(self) -> None:
        if self._current:
            self.finish_stage(self._current)

    def advance_stage(self, stage: str, failures: Sequence[str] = ()) -> None:
        self.stages[stage].failures.update(failures)
        self._moved(self.stages[stage], 1)

    def drop(self, stage: str, n: int) -> None:
        self.stages[stage].total -= n
        self.shown_move(self.stages[stage])

    def finish_stage(self, stage: str) -> None:
        state = self.stages[stage]
        if not state.is_finished:
            state.is_finished = True
            self.shown_finish(state)

    def watch(self, request_counts: RequestCounts) -> None:
        """Show these requests too."""
        self.request_counts = request_counts

    @abstractmethod
    def note(self, text: str) -> None:
        """One line about what begins now and has no count."""

    @abstractmethod
    def shown_start(self, state: StageState) -> None: ...

    @abstractmethod
    def shown_move(self, state: StageState) -> None: ...

    @abstractmethod
    def shown_finish(self, state: StageState) -> None: ...

    def _moved(self, state: StageState, n: int) -> None:
        state.done += n
        self.shown_move(state)


def request_counts_in_short(counts: RequestCounts | None) -> str:
    """Requests, tokens and what was paid in a few words; empty where no language model was asked."""
    if counts is None or not (counts.n_open or counts.n_answered or counts.n_read or counts.n_failed):
        return ""
    usage = counts.usage
    least = "over " if usage.n_uncounted else ""
    tokens = f"{least}{_short(usage.prompt_tokens)} + {_short(usage.completion_tokens)} tokens"
    usd = counts.spent().usd
    price = f", ${usd:,.2f} spent" if usd else ""
    read = f"{counts.n_read:,} texts rated, " if counts.n_read else ""
    return f"{counts.n_answered:,} answers, {read}{counts.n_open:,} open, {tokens}{price}"


def duration(seconds: float) -> str:
    """In the largest units that say enough.

    >>> duration(42), duration(150), duration(7320)
    ('42 s', '2 min 30 s', '2 h 2 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _short(n: int) -> str:
    """A count in three digits.

    >>> _short(950), _short(12_300), _short(4_560_000)
    ('950', '12.3k', '4.56M')
    """
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if n >= size:
            return f"{n / size:.3g}{letter}"
    return str(n)


class RunProgress(Progress, Protocol):
    """`Progress` for stages that overlap: each is named."""

    def advance_stage(self, stage: str, failures: Sequence[str] = ()) -> None:
        """One unit of a stage is done, or was tried and failed: with the kinds of its failures."""
        ...

    def drop(self, stage: str, n: int) -> None:
        """So many units of a stage will not come, because what they need has failed."""
        ...

    def finish_stage(self, stage: str) -> None: ...
