"""How far a run is: bars on a terminal, plain lines now and then elsewhere, JSON events for machines."""

import json
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from io import TextIOBase
from types import TracebackType
from typing import IO, TypeAlias, cast

from rich.console import Console, ConsoleOptions, RenderableType
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
from rich.segment import Segment

from sae_auto_interp.pipeline.clients.request_counts import RequestCounts
from sae_auto_interp.pipeline.progress.state import ProgressState, StageState, duration, request_counts_in_short
from sae_auto_interp.visible_text import visible, visible_lines, visible_output


class VisibleConsole(Console):
    """rich's console, on which text does nothing but be seen; its own colours and bars are what they were."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            is_plain = segment.control is not None or segment.text.isprintable()
            yield segment if is_plain else Segment(visible_lines(segment.text), segment.style)


LINE_EVERY_SECONDS = 5.0
EVENT_EVERY_SECONDS = 1.0


class BarProgress(ProgressState):
    """One bar per stage, and one line about requests."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._bars = Progress(
            SpinnerColumn(), TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[unit]} {task.fields[rate]}"), TimeElapsedColumn(), TimeRemainingColumn(),
            TextColumn("[red]{task.fields[failed]}[/red]{task.fields[request_counts]}"), console=console,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}
        self._visible = ExitStack()

    def __enter__(self) -> "BarProgress":
        self._bars.start()
        self._visible.enter_context(visible_output())  # around rich's own hold on what is printed meanwhile
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._visible.close()
        self._bars.stop()

    def note(self, text: str) -> None:
        self._console.print(visible(text), style="dim", markup=False, highlight=False)

    def shown_start(self, state: StageState) -> None:
        self._tasks[state.name] = self._bars.add_task(
            state.name, total=state.total, completed=state.done, unit=state.unit, rate="", failed="", request_counts=""
        )

    def shown_move(self, state: StageState) -> None:
        task = self._tasks[state.name]
        rate = state.rate(self.clock())
        is_last = state.name == next(reversed(self.stages))
        self._bars.update(
            task, completed=state.done, total=state.total, rate=f"({rate:,.1f}/s)" if rate else "",
            failed=state.failed, request_counts=f" {request_counts_in_short(self.request_counts)}" if is_last else "",
        )  # fmt: skip

    def shown_finish(self, state: StageState) -> None:
        self._bars.stop_task(self._tasks[state.name])


class LineProgress(ProgressState):
    """A line when a stage begins and ends, and every few seconds between."""

    def __init__(self, stream: TextIOBase, interval_seconds: float = LINE_EVERY_SECONDS) -> None:
        super().__init__()
        self._stream = stream
        self._interval = interval_seconds
        self._last_lines: dict[str, float] = {}

    def __enter__(self) -> "LineProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.flush()

    def note(self, text: str) -> None:
        self._stream.write(visible(text) + "\n")
        self._stream.flush()

    def shown_start(self, state: StageState) -> None:
        self._last_lines[state.name] = self.clock()
        already = f", {state.done:,} already done" if state.done else ""
        self.note(f"{state.name}: {state.total:,} {state.unit}{already}")

    def shown_move(self, state: StageState) -> None:
        if self.clock() - self._last_lines[state.name] >= self._interval:
            self._line(state)

    def shown_finish(self, state: StageState) -> None:
        if state.done > state.done_before:
            self._line(state)

    def _line(self, state: StageState) -> None:
        now = self.clock()
        self._last_lines[state.name] = now
        left = state.seconds_left(now)
        is_last = state.name == next(reversed(self.stages))
        parts = [
            f"{state.name}: {state.done:,} of {state.total:,} {state.unit}", f"{state.rate(now):,.1f}/s",
            "" if left is None else f"{duration(left)} left", state.failed,
            request_counts_in_short(self.request_counts) if is_last else "",
        ]  # fmt: skip
        self.note(", ".join(part for part in parts if part))


class EventProgress(ProgressState):
    """One JSON object per line: `note`, `start`, `progress` (at most one per stage and second), `finish`."""

    def __init__(self, stream: TextIOBase, interval_seconds: float = EVENT_EVERY_SECONDS) -> None:
        super().__init__()
        self._stream = stream
        self._interval = interval_seconds
        self._last_events: dict[str, float] = {}

    def __enter__(self) -> "EventProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = "finished" if error is None else type(error).__name__
        self._write("end", {"status": status, "message": "" if error is None else str(error)})

    def note(self, text: str) -> None:
        self._write("note", {"text": text})

    def shown_start(self, state: StageState) -> None:
        self._event("start", state)

    def shown_move(self, state: StageState) -> None:
        if self.clock() - self._last_events[state.name] >= self._interval:
            self._event("progress", state)

    def shown_finish(self, state: StageState) -> None:
        self._event("finish", state)

    def _event(self, event: str, state: StageState) -> None:
        now = self.clock()
        self._last_events[state.name] = now
        self._write(event, stage_as_json(state, now) | requests_as_json(self.request_counts))

    def _write(self, event: str, fields: dict[str, object]) -> None:
        self._stream.write(json.dumps({"event": event} | fields) + "\n")
        self._stream.flush()


def stage_as_json(state: StageState, now: float) -> dict[str, object]:
    """The numbers of one stage; rates are per second, `seconds_left` is null where it is not known."""
    left = state.seconds_left(now)
    return {
        "stage": state.name,
        "unit": state.unit,
        "total": state.total,
        "done": state.done,
        "rate": round(state.rate(now), 3),
        "seconds_left": None if left is None else round(left, 1),
        "failures": dict(sorted(state.failures.items())),
    }


def requests_as_json(counts: RequestCounts | None) -> dict[str, object]:
    """Requests and tokens of this process, and what the run has paid for; nothing where no language model is asked."""
    if counts is None:
        return {}
    requests = {
        "open": counts.n_open, "answered": counts.n_answered, "read": counts.n_read, "failed": counts.n_failed,
    }  # fmt: skip
    usage = counts.usage
    tokens = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    spent = counts.spent()
    paid = {
        "paid": spent.n_paid, "cached": spent.n_cached, "lost": spent.n_lost, "uncounted": spent.n_uncounted,
        "usd": round(spent.usd, 6),
    }  # fmt: skip
    return {"requests": requests | tokens, "spent": paid}


StageProgress: TypeAlias = BarProgress | LineProgress | EventProgress
"""What the driver opens around a run; each is a `run_progress.RunProgress`."""


def make_progress(stream: TextIOBase | None = None, *, events: bool = False) -> StageProgress:
    """A bar when `stream` (default: standard error) is a terminal, lines otherwise; `events` go to standard output."""
    if events:
        return EventProgress(stream or cast(TextIOBase, sys.stdout))
    stream = stream or cast(TextIOBase, sys.stderr)
    return BarProgress(VisibleConsole(file=cast(IO[str], stream))) if stream.isatty() else LineProgress(stream)
