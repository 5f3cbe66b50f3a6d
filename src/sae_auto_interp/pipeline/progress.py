"""How far a stage is: a bar with rate and time left on a terminal, a plain line now and then elsewhere."""

import sys
import time
from io import TextIOBase
from types import TracebackType
from typing import IO, TypeAlias, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)  # fmt: skip

LINE_EVERY_SECONDS = 5.0


class BarProgress:
    """One bar per stage."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            SpinnerColumn(), TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[unit]} {task.fields[rate]}"), TimeElapsedColumn(), TimeRemainingColumn(),
            TextColumn("[red]{task.fields[failed]}"), console=console,
        )  # fmt: skip
        self._task: TaskID | None = None
        self._failed = 0

    def __enter__(self) -> "BarProgress":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def note(self, text: str) -> None:
        self._console.print(text, style="dim", markup=False, highlight=False)

    def start(self, stage: str, total: int, done: int, unit: str) -> None:
        self._failed = 0
        self._task = self._bars.add_task(stage, total=total, completed=done, unit=unit, rate="", failed="")

    def advance(self, n: int = 1, failed: int = 0) -> None:
        assert self._task is not None, "advance() before start()"
        self._failed += failed
        self._bars.advance(self._task, n)
        speed = self._bars.tasks[self._task].speed
        rate = f"({speed:,.0f}/s)" if speed else ""
        self._bars.update(self._task, rate=rate, failed=f"{self._failed} failed" if self._failed else "")

    def finish(self) -> None:
        if self._task is not None:
            self._bars.stop_task(self._task)
            self._task = None


class LineProgress:
    """A line when a stage begins and ends, and every few seconds between."""

    def __init__(self, stream: TextIOBase, interval_seconds: float = LINE_EVERY_SECONDS) -> None:
        self._stream = stream
        self._interval = interval_seconds
        self._stage, self._unit = "", ""
        self._total = self._done = self._done_before = self._failed = 0
        self._began = self._last_line = 0.0

    def __enter__(self) -> "LineProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.flush()

    def note(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def start(self, stage: str, total: int, done: int, unit: str) -> None:
        self._stage, self._unit, self._total = stage, unit, total
        self._done = self._done_before = done
        self._failed = 0
        self._began = self._last_line = time.monotonic()
        already = f", {done:,} already done" if done else ""
        self.note(f"{stage}: {total:,} {unit}{already}")

    def advance(self, n: int = 1, failed: int = 0) -> None:
        self._done += n
        self._failed += failed
        if time.monotonic() - self._last_line >= self._interval:
            self._line()

    def finish(self) -> None:
        if self._done > self._done_before:
            self._line()

    def _line(self) -> None:
        now = time.monotonic()
        self._last_line = now
        rate = (self._done - self._done_before) / max(now - self._began, 1e-9)
        left = f", {(self._total - self._done) / rate:,.0f} s left" if rate and self._done < self._total else ""
        failed = f", {self._failed:,} failed" if self._failed else ""
        self.note(f"{self._stage}: {self._done:,} of {self._total:,} {self._unit}, {rate:,.1f}/s{left}{failed}")


StageProgress: TypeAlias = BarProgress | LineProgress
"""What the driver opens around a run; each is a `protocols.Progress`."""


def make_progress(stream: TextIOBase | None = None) -> StageProgress:
    """A bar when `stream` (default: standard error) is a terminal, lines otherwise."""
    stream = stream or cast(TextIOBase, sys.stderr)
    return BarProgress(Console(file=cast(IO[str], stream))) if stream.isatty() else LineProgress(stream)
