"""Kill caching at every kind of moment, or fill its disk, resume it, and compare every byte; for test_resume.py.

    python killed_runs.py DIRECTORY STEP MOMENTS

This process loads torch once. In "kill" it forks, and the child is killed by SIGKILL: when it is about to hand over
activations, with half of a write done, before a file is written through to the disk, renamed or deleted, with half a
line of the journal written, and MOMENTS times at a moment of nobody's choosing. In "full" the same calls fail as on a
full disk. What is left is resumed here. Every STEP-th event is tried, and each kind of event at each stage at least
once. Prints what was tried and what went wrong, as JSON.
"""

import errno
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sae_auto_interp.cache import journal, write_buffer
from sae_auto_interp.cache.files import DurableFile
from sae_auto_interp.cache.journal import JOURNAL
from sae_auto_interp.cache.layout import MANIFEST, STATISTICS
from sae_auto_interp.cache.reader import CacheReader
from sae_auto_interp.cache.write_buffer import WriteBuffer
from sae_auto_interp.errors import CacheError
from sae_auto_interp.features import CacheOptions, FeatureCache
from tests.support.records import directory_bytes, make_rows, tiny_world

MODULES = ("transformer.h.0", "transformer.h.1.mlp")
N_ROWS, BATCH = 6, 2
ENTRIES_IN_POOL = 40
"""Fewer than a batch has: a batch is spilled in several runs."""
Work = Callable[[], None]


def main(root: Path, step: int, moments: int) -> None:
    torch.set_num_threads(1)  # a forked child cannot use the threads of its parent
    os.fsync = lambda fd: (
        None
    )  # a kill takes nothing back that was written; waiting for the disk takes most of the time
    write_buffer.LEAST_ENTRIES = ENTRIES_IN_POOL
    model, submodules = tiny_world()
    world = model, {path: submodules[path] for path in MODULES}
    rows, older = make_rows(N_ROWS, 8, bos=0), make_rows(N_ROWS, 8, seed=9)

    def run(work: Path, out: Path, tokens: Any = rows, n_splits: int = 2) -> None:
        cache = FeatureCache(*world, batch_size=BATCH, options=CacheOptions(work_dir=work, buffer_mib=0))
        cache.run(tokens=tokens)
        cache.save_splits(n_splits, out)

    run(root / "older.work", root / "older", older, n_splits=5)
    shutil.copytree(root / "older", root / "whole")
    with Events() as events:
        began = time.perf_counter()
        run(root / "whole.work", root / "whole")
        seconds = time.perf_counter() - began
    expected = directory_bytes(root / "whole")
    problems: list[str] = []

    def attempt(name: str, interrupt: Callable[[Work], list[str]]) -> None:
        """Interrupt a run over an older cache, look at what it left, and go on."""
        work, out = root / f"{name}.work", root / name
        shutil.copytree(root / "older", out)
        found = interrupt(lambda: run(work, out))
        found += looks_finished_and_is_not(out)
        to_do = N_ROWS // BATCH - rows_promised(work) // BATCH
        with Events() as resumed:
            run(work, out)
        if resumed.n_commits != to_do:
            found.append(f"{to_do} batches were to be done, and {resumed.n_commits} were")
        if directory_bytes(out) != expected:
            found.append("other files than an uninterrupted run's")
        problems.extend(f"{name}: {problem}" for problem in found)
        shutil.rmtree(out)
        shutil.rmtree(work)

    tried: dict[str, list[str]] = {}
    for mode, interrupt in (("kill", killed_at), ("full", full_at)):
        chosen = chosen_events([label if may_fail(label, mode) else "" for label in events.labels], step)
        tried[mode] = [events.labels[number] for number in chosen]
        for number in chosen:
            attempt(f"{mode}{number}", lambda work, number=number, interrupt=interrupt: interrupt(work, number))
    for seed in range(moments):
        after = random.Random(seed).uniform(0, seconds)
        attempt(f"moment{seed}", lambda work, after=after: killed_after(work, after))
    print(json.dumps({"counts": Counter(events.labels), "tried": tried, "moments": moments, "problems": problems}))


def may_fail(label: str, mode: str) -> bool:
    """A full disk keeps nobody from deleting or from encoding."""
    return mode == "kill" or label.split()[0] in ("write", "fsync", "rename", "line")


def chosen_events(labels: list[str], step: int) -> list[int]:
    """Every `step`-th event that has a label, and the first, the middle and the last of each label."""
    numbers = [number for number, label in enumerate(labels) if label]
    chosen = set(numbers[::step])
    for label in set(labels) - {""}:
        same = [number for number in numbers if labels[number] == label]
        chosen |= {same[0], same[len(same) // 2], same[-1]}
    return sorted(chosen)


def killed_at(work: Work, number: int) -> list[str]:
    return forked(work, number, None)


def killed_after(work: Work, seconds: float) -> list[str]:
    return forked(work, None, seconds)


def forked(work: Work, number: int | None, seconds: float | None) -> list[str]:
    """Run in a child that dies of SIGKILL at an event, or after some time (by then it may be done)."""
    child = os.fork()
    if child == 0:
        with Events(number, lambda: os.kill(os.getpid(), signal.SIGKILL)):
            work()
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    is_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return [] if is_killed or seconds is not None else ["was not killed"]


def full_at(work: Work, number: int) -> list[str]:
    """Run until the disk is full at an event; what is said must name it."""

    def fail() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    try:
        with Events(number, fail):
            work()
    except CacheError as error:
        return [] if "cannot be written" in str(error) and "run the same command again" in str(error) else [str(error)]
    return ["did not fail"]


def rows_promised(work: Path) -> int:
    """What the journal says that is done."""
    path = work / JOURNAL
    text = path.read_text() if path.is_file() else ""
    lines = text[: text.rfind("\n") + 1].splitlines()[1:]
    return json.loads(lines[-1])["rows_done"] if lines else 0


def looks_finished_and_is_not(out: Path) -> list[str]:
    """What has a manifest must be whole: the older cache, or the new one."""
    problems: list[str] = []
    for module in MODULES:
        try:
            reader = CacheReader(out / module, verify=True)
            counts = [len(reader.entries(index).locations) for index in range(reader.manifest.width)]
            if counts != reader.statistics()["n_activations"].tolist():
                problems.append(f"{module} has a manifest and other entries")
        except CacheError as error:
            if "holds no finished cache" not in str(error):
                problems.append(f"{module}: {error}")
    return problems


def stage_of(path: Path) -> str:
    """What a file is for."""
    name = path.name.removeprefix(".").removesuffix(".partial")
    known = {JOURNAL: "journal", MANIFEST: "manifest", STATISTICS: "statistics"}
    return known.get(name, "run" if name.startswith("run") else "shard")


@dataclass
class Events:
    """Within the block, what a run does to the disk is noted by a label, and the `number`-th time something happens."""

    number: int | None = None
    happen: Callable[[], None] = lambda: None
    labels: list[str] = field(default_factory=list)
    n_commits: int = 0
    _stage: str = "journal"
    _undo: list[tuple[Any, str, Any]] = field(default_factory=list)

    def __enter__(self) -> "Events":
        write, fsync, replace, unlink = DurableFile.write, os.fsync, Path.replace, Path.unlink
        append, commit, append_line = WriteBuffer.append, WriteBuffer.commit, journal.append_line

        def half_a_write(file: DurableFile, data: Any, at: int) -> None:
            self._stage = stage_of(file.path)
            if self._is_due("write"):
                write(file, data[: len(data) // 2], at)
                self._happen_within(file.path)
            write(file, data, at)

        def half_a_line(path: Path, line: str) -> None:
            self._stage = "journal"
            if self._is_due("line"):
                with path.open("a") as stream:
                    stream.write(line[: len(line) // 2])
                self._happen_within(path)
            append_line(path, line)

        def before(call: Callable[..., Any], kind: str) -> Callable[..., Any]:
            def called(*arguments: Any, **named: Any) -> Any:
                if kind != "unlink" or arguments[0].exists():
                    if kind == "unlink":
                        self._stage = stage_of(arguments[0])
                    if self._is_due(kind):
                        self.happen()
                return call(*arguments, **named)

            return called

        def counted_commit(*arguments: Any, **named: Any) -> None:
            self.n_commits += 1
            commit(*arguments, **named)

        self._patch(DurableFile, "write", half_a_write)
        self._patch(journal, "append_line", half_a_line)
        self._patch(os, "fsync", before(fsync, "fsync"))
        self._patch(Path, "replace", before(replace, "rename"))
        self._patch(Path, "unlink", before(unlink, "unlink"))
        self._patch(WriteBuffer, "append", before(append, "append"))
        self._patch(WriteBuffer, "commit", counted_commit)
        return self

    def __exit__(self, *_: object) -> None:
        for target, name, original in self._undo:
            setattr(target, name, original)

    def _patch(self, target: Any, name: str, value: Any) -> None:
        self._undo.append((target, name, getattr(target, name)))
        setattr(target, name, value)

    def _is_due(self, kind: str) -> bool:
        self.labels.append("append to the pool" if kind == "append" else f"{kind} {self._stage}")
        return len(self.labels) - 1 == self.number

    def _happen_within(self, path: Path) -> None:
        """As the operating system would report it, to those who write this file."""
        from sae_auto_interp.cache.files import writing

        with writing(path):
            self.happen()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
