"""Run measurements in processes of their own, in turns, and write one JSON line for each.

The repetitions of ours, the bare limit and the peer alternate, so that a slow minute of the machine falls on all. A
measurement that cannot be had, or whose program fails, is written as missing, with the reason.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.child import parsed
from benchmarks.lines import Line, append_line, read_lines

ROOT = Path(__file__).resolve().parents[1]
STUBS = ROOT / "benchmarks" / "peer" / "stubs"
NO_PEER = "the peer's environment is not set up (python -m benchmarks.setup_peer)"
FAILED = "failed: "
LAST_WORDS = 300
"""Characters of a failed program's last message that are kept."""


class ProgramFailed(Exception):
    """A measured program ended without an answer."""


@dataclass(frozen=True, slots=True)
class Task:
    """One program to measure: `program` is run with the settings and the folder as arguments."""

    benchmark: str
    who: str
    program: str
    settings: dict[str, Any]
    folder: Path
    repetitions: int | None = None
    """Fewer than the others have; None for as many."""
    unavailable: str | None = None
    """Why it cannot run at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Where the lines go, and what is the same for all tasks."""

    out: Path
    repetitions: int
    threads: int
    peer_python: Path | None = None

    def task(
        self,
        benchmark: str,
        who: str,
        settings: dict[str, Any],
        folder: Path,
        *,
        program: str | None = None,
        repetitions: int | None = None,
    ) -> Task:
        """A task for `who`, whose program has the benchmark's name unless another is given.

        One for the peer is unavailable, with the reason, where the peer has no environment.
        """
        unavailable = NO_PEER if who == "peer" and self.peer_python is None else None
        name = f"benchmarks.{who}.{program or benchmark}"
        return Task(benchmark, who, name, settings, folder, repetitions, unavailable)

    def run(self, tasks: Sequence[Task]) -> list[Line]:
        """Measure tasks that belong side by side; returns their lines, which are also in `out`."""
        lines: list[Line] = []
        for repetition in range(self.repetitions):
            for task in tasks:
                if repetition < self._repetitions_of(task):
                    line = self._measure(task, repetition)
                    append_line(self.out, line)
                    report(line)
                    lines.append(line)
        return lines

    def _repetitions_of(self, task: Task) -> int:
        """One line is enough to say that something is missing."""
        return 1 if task.unavailable else min(self.repetitions, task.repetitions or self.repetitions)

    def call(self, task: Task) -> dict[str, Any]:
        """The answer of a task's program; raises `ProgramFailed` with how it ended when there is none."""
        python = str(self.peer_python if task.who == "peer" else sys.executable)
        command = [python, "-m", task.program, json.dumps(task.settings), str(task.folder)]
        environment = self._environment(task)
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ProgramFailed(_last_words(done.returncode, done.stderr))
        return parsed(done.stdout)

    def _measure(self, task: Task, repetition: int) -> Line:
        if task.unavailable:
            return _line(task, repetition, missing=task.unavailable)
        try:
            return _line(task, repetition, answer=self.call(task))
        except ProgramFailed as failure:
            return _line(task, repetition, missing=str(failure))

    def _environment(self, task: Task) -> dict[str, str]:
        threads = str(self.threads)
        quiet = {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"}
        count = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
        path = {"PYTHONPATH": str(STUBS)} if task.who == "peer" else {}
        return {**os.environ, **quiet, **count, **path}


def exit_status(lines_file: Path) -> int:
    """1 when a program of ours or of the bare limit failed; that something is not available here is no failure."""
    lines = read_lines([lines_file])
    return int(any(line.who != "peer" and (line.missing or "").startswith(FAILED) for line in lines))


def report(line: Line) -> None:
    """One line for whoever is waiting."""
    figures = {name: value for name, value in line.result.items() if isinstance(value, int | float)}
    text = line.missing or ", ".join(f"{name} {value:g}" for name, value in figures.items())
    print(f"{line.benchmark} {line.who} #{line.repetition} {_short(line.settings)}: {text}", flush=True)


def _line(task: Task, repetition: int, *, answer: dict[str, Any] | None = None, missing: str | None = None) -> Line:
    return Line(
        benchmark=task.benchmark,
        who=task.who,
        settings=task.settings,
        repetition=repetition,
        machine=answer["machine"] if answer else machine.facts(),
        result=answer["result"] if answer else {},
        missing=missing,
    )


def _last_words(status: int, stderr: str) -> str:
    """How a program ended: killed by a signal (out of memory: 9), or its last message, without the paths in it."""
    if status < 0:
        return f"{FAILED}killed by signal {-status}"
    message = (stderr.strip().splitlines() or [f"status {status}"])[-1]
    return FAILED + message.replace(str(ROOT), ".")[:LAST_WORDS]


def _short(settings: dict[str, Any]) -> str:
    shown = ("width", "n_tokens", "activation", "kind", "model")
    marks = [str(settings[name]) for name in shown if name in settings]
    return " ".join([*marks, *(["heavy"] if settings.get("heavy") else [])])
