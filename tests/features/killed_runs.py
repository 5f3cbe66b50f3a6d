"""Kill caching at every kind of moment, resume it, and compare every byte; test_resume.py runs it as a process.

    python killed_runs.py DIRECTORY STEP

This process loads torch once and forks; each child runs the cache and is killed by SIGKILL: at the n-th time that it
is about to have a file written through to the disk or renamed, or when half of a piece of a shard or half a line of
the journal is written, or at a moment of nobody's choosing. What a dead child leaves is resumed here. Every STEP-th n
of the many is tried. Prints what went wrong, as JSON.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sae_auto_interp.cache.arrays import ArrayWriter
from sae_auto_interp.cache.reader import CacheReader
from sae_auto_interp.cache.spool import JOURNAL, Spool
from sae_auto_interp.errors import CacheError
from sae_auto_interp.features import CacheOptions, FeatureCache
from tests.support.records import directory_bytes, make_rows, tiny_world

MODULES = ("transformer.h.0", "transformer.h.1.mlp")
N_ROWS, BATCH = 6, 2
Event = tuple[str, int]


def main(root: Path, step: int) -> None:
    torch.set_num_threads(1)  # a forked child cannot use the threads of its parent
    model, submodules = tiny_world()
    world = model, {path: submodules[path] for path in MODULES}
    rows, older = make_rows(N_ROWS, 8, bos=0), make_rows(N_ROWS, 8, seed=9)

    def run(work: Path, out: Path, tokens: Any = rows, n_splits: int = 2) -> None:
        cache = FeatureCache(*world, batch_size=BATCH, options=CacheOptions(work_dir=work, buffer_mib=0))
        cache.run(tokens=tokens)
        cache.save_splits(n_splits, out)

    run(root / "older.work", root / "older", older, n_splits=5)
    counts = counted(lambda: run(root / "whole.work", root / "whole"))
    expected = directory_bytes(root / "whole")
    problems: list[str] = []
    events: list[Event] = [(kind, n) for kind in sorted(counts) for n in range(1, counts[kind] + 1, step)]
    for kind, n in [*events, *(("moment", seed) for seed in range(6))]:
        work, out = root / f"{kind}{n}.work", root / f"{kind}{n}"
        shutil.copytree(root / "older", out)
        killed = killed_child(lambda work=work, out=out: run(work, out), kind, n)
        if not killed and kind != "moment":
            problems.append(f"{kind} {n}: was not killed")
        problems += [f"{kind} {n}: {problem}" for problem in looks_finished_and_is_not(out)]
        journal = (work / JOURNAL).read_text().count("\n") if (work / JOURNAL).is_file() else 0
        resumed = Counter[str]()
        with_counter(FeatureCache, "_cache_batch", resumed, lambda work=work, out=out: run(work, out))
        if resumed["_cache_batch"] != N_ROWS // BATCH - max(0, journal - 1):
            problems.append(
                f"{kind} {n}: {journal - 1} runs were promised, and {resumed['_cache_batch']} batches run again"
            )
        if directory_bytes(out) != expected:
            problems.append(f"{kind} {n}: other files than an uninterrupted run's")
    print(json.dumps({"counts": counts, "n_events": len(events), "problems": problems}))


def killed_child(work: Callable[[], None], kind: str, n: int) -> bool:
    """Whether a forked child died of SIGKILL at the n-th event of its kind."""
    child = os.fork()
    if child == 0:
        if kind != "moment":
            install(Counter[str](), (kind, n))
        work()
        os._exit(0)
    if kind == "moment":
        time.sleep(random.Random(n).uniform(0.005, 0.1))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


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


def counted(work: Callable[[], None]) -> dict[str, int]:
    """How often each kind of event comes in a whole run; in this process, undone afterwards."""
    seen = Counter[str]()
    undo = install(seen, None)
    work()
    for target, name, original in undo:
        setattr(target, name, original)
    return dict(seen)


def with_counter(target: Any, name: str, seen: Counter[str], work: Callable[[], None]) -> None:
    original = getattr(target, name)

    def counting(*arguments: Any) -> Any:
        seen[name] += 1
        return original(*arguments)

    setattr(target, name, counting)
    work()
    setattr(target, name, original)


def install(seen: Counter[str], deadly: Event | None) -> list[tuple[Any, str, Any]]:
    """Count events, and die at one of them; returns how to undo it."""

    def is_deadly(kind: str) -> bool:
        seen[kind] += 1
        return (kind, seen[kind]) == deadly

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    fsync, replace, append, write_journal = os.fsync, Path.replace, ArrayWriter.append, Spool._write_journal

    def deadly_fsync(descriptor: int) -> None:
        if is_deadly("fsync"):
            die()
        fsync(descriptor)

    def deadly_replace(self: Path, target: Path) -> Path:
        if is_deadly("rename"):
            die()
        return replace(self, target)

    def deadly_append(self: ArrayWriter, name: str, piece: Any) -> None:
        if is_deadly("piece"):
            append(self, name, piece[: len(piece) // 2])
            self._stream.flush()
            die()
        append(self, name, piece)

    def deadly_journal(self: Spool, line: Any) -> None:
        if is_deadly("line"):
            text = json.dumps(line)
            with (self.directory / JOURNAL).open("a") as stream:
                stream.write(text[: len(text) // 2])
            die()
        write_journal(self, line)

    patches: list[tuple[Any, str, Any]] = [
        (os, "fsync", deadly_fsync),
        (Path, "replace", deadly_replace),
        (ArrayWriter, "append", deadly_append),
        (Spool, "_write_journal", deadly_journal),
    ]
    undo = [(target, name, getattr(target, name)) for target, name, _ in patches]
    for target, name, value in patches:
        setattr(target, name, value)
    return undo


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
