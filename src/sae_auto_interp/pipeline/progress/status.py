"""How far a run is, for whoever looks from outside: `progress.json`, which the working process keeps, and the results.

`sae-auto-interp status RUN` shows it. The results are what is true; `progress.json` adds rates, time left and requests,
and may be some seconds old, or left from a process that was killed.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sae_auto_interp.cache.layout import write_text
from sae_auto_interp.errors import RunDirectoryError
from sae_auto_interp.pipeline.progress.displays import StageProgress, requests_as_json, stage_as_json
from sae_auto_interp.pipeline.progress.ending import stored_failures
from sae_auto_interp.pipeline.progress.state import duration
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.results import ResultStore
from sae_auto_interp.results.connection import is_being_written
from sae_auto_interp.results.failure_kinds import FailureKind
from sae_auto_interp.types.spending import NOTHING_SPENT, Spent

WRITE_EVERY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of a run from its directory."""

    is_running: bool
    counts: Mapping[str, int]
    """Records, explanations (shuffled controls included), scores and failures that are stored."""
    failures: tuple[FailureKind, ...]
    """Failures of units and of single trials, the most frequent kind first."""
    spent: Spent
    """What all processes of the run have paid for."""
    n_with_fewer_examples: int
    """Explanations whose prompt fitted the model's context with fewer examples only."""
    progress: Mapping[str, Any] | None
    """Content of `progress.json`; None before anything was explained."""

    def as_json(self) -> dict[str, Any]:
        return {
            "is_running": self.is_running,
            "stored": dict(self.counts),
            "explained_with_fewer_examples": self.n_with_fewer_examples,
            "failures": [asdict(each) for each in self.failures],
            "spent": asdict(self.spent),
            "progress": self.progress,
        }


def read_status(root: Path) -> Status:
    """Raises `RunDirectoryError` for what is no run directory."""
    directory = RunDirectory(root)
    if not directory.manifest.is_file():
        raise RunDirectoryError(f"{root} is not a run directory; make one with `run`, `cache` or `demo`")
    is_running = is_being_written(directory.results)
    progress = _progress_in(directory.progress)
    if not directory.results.exists():
        return Status(is_running, {}, (), NOTHING_SPENT, 0, progress)
    with ResultStore.open(directory.results, read_only=True) as store:
        spent = sum(store.spending().values(), NOTHING_SPENT)
        n_fewer = store.n_with_fewer_examples()
        return Status(is_running, store.counts(), stored_failures(store), spent, n_fewer, progress)


def _progress_in(path: Path) -> dict[str, Any] | None:
    """What a process noted of itself; None where it noted nothing that can be read: the results are what is true."""
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        for stage in found["stages"]:
            _stage_line(stage, True)
        requests = found.get("requests")
        if requests is not None:
            _requests_line(requests)
        return found
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return None


def status_lines(status: Status) -> list[str]:
    """The same for people."""
    if not status.counts:
        return ["running" if status.is_running else "not running", "nothing is stored yet"]
    progress = status.progress or {}
    running = f"running (process {progress.get('process', 'unknown')})" if status.is_running else "not running"
    lines = [running, "stored: " + ", ".join(f"{n:,} {name}" for name, n in status.counts.items())]
    lines += [_stage_line(stage, status.is_running) for stage in progress.get("stages", [])]
    requests = progress.get("requests")
    if requests is not None:
        lines.append(_requests_line(requests))
    if status.spent != NOTHING_SPENT:
        lines.append(_spent_line(status.spent))
    if status.n_with_fewer_examples:
        lines.append(fewer_examples(status.n_with_fewer_examples))
    lines += [f"failed: {each.line}" for each in status.failures]
    return lines


def _requests_line(requests: Mapping[str, Any]) -> str:
    tokens = f"{requests['prompt_tokens']:,} + {requests['completion_tokens']:,} tokens"
    rated = f", {requests['read']:,} texts rated" if requests.get("read") else ""
    return f"requests of the last process: {requests['answered']:,} answered{rated}, {tokens}"


def fewer_examples(n: int) -> str:
    """How many explanations were made with fewer examples than asked for."""
    features = "1 feature was" if n == 1 else f"{n:,} features were"
    return f"{features} explained with fewer examples, so that the prompt fits the model's context"


def _spent_line(spent: Spent) -> str:
    most = "at most " if spent.n_uncounted else ""
    price = f", ${spent.usd:,.4f}" if spent.usd else ""
    tokens = f"{most}{spent.prompt_tokens:,} + {spent.completion_tokens:,} tokens"
    line = f"paid for: {spent.n_paid:,} answers ({tokens}{price}); cached {spent.n_cached:,}, lost {spent.n_lost:,}"
    return f"{line}; {spent.n_uncounted:,} without a usable count, charged at most" if spent.n_uncounted else line


def _stage_line(stage: Mapping[str, Any], is_running: bool) -> str:
    done = f"{stage['stage']}: {stage['done']:,} of {stage['total']:,} {stage['unit']}"
    left = stage["seconds_left"]
    if not is_running or left is None:
        return done
    return f"{done}, {stage['rate']:,.1f}/s, {duration(left)} left"


@asynccontextmanager
async def kept_status(path: Path, progress: StageProgress) -> AsyncGenerator[None, None]:
    """Write `progress.json` every few seconds while the body runs, and once more at its end."""

    async def keep() -> None:
        while True:
            _write(path, progress)
            await asyncio.sleep(WRITE_EVERY_SECONDS)

    keeper = asyncio.create_task(keep())
    try:
        yield
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        _write(path, progress)


def _write(path: Path, progress: StageProgress) -> None:
    now = progress.clock()
    stages = [stage_as_json(state, now) for state in progress.stages.values()]
    content = {"process": os.getpid(), "written_at_unix_seconds": round(time.time(), 1), "stages": stages}
    write_text(path, json.dumps(content | requests_as_json(progress.request_counts), indent=2) + "\n")
