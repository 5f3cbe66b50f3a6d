"""Select windows in several processes, ahead of the consumer: in the order asked for, whatever the number of processes.

The processes are started afresh (spawn: safe beside threads and torch). Each opens the cache itself, and the token
rows are handed over as files which all of them map: nothing large is sent. What comes back is a `Selection`, some 20
KB. The processes end with the iterator, on ctrl-C, and when the process that started them is gone.
"""

import multiprocessing
import os
import shutil
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from pickle import PicklingError
from tempfile import TemporaryDirectory
from typing import Protocol, runtime_checkable

import numpy as np

from sae_auto_interp.errors import InputError, SaeAutoInterpError, WorkerError
from sae_auto_interp.features.config import FeatureConfig
from sae_auto_interp.features.constructors import Constructor
from sae_auto_interp.features.dataset import FeatureDataset
from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.features.selection import Selection
from sae_auto_interp.types import Failure, FeatureId, TokenRows

AHEAD_PER_WORKER = 4


@runtime_checkable
class Selecting(Protocol):
    """What selects the windows of a feature (`FeatureLoader`); a process makes its own from its class."""

    cfg: FeatureConfig
    dataset: FeatureDataset
    grid: WindowGrid
    constructor: Constructor
    distances: dict[FeatureId, list[tuple[FeatureId, float]]]

    def __init__(
        self, tokens: TokenRows, dataset: FeatureDataset, constructor: Constructor | None, *, neighbours: tuple[()]
    ) -> None: ...

    def select(self, feature: FeatureId) -> Selection | Failure: ...


@dataclass(frozen=True, slots=True)
class _Job:
    """What a process needs to build the same loader."""

    cache: Path
    rows: Path
    """A directory of the token rows, which is deleted when the work is done."""
    n_documents: int
    cfg: FeatureConfig
    make_loader: Callable[..., Selecting]
    constructor: Constructor
    distances: dict[FeatureId, list[tuple[FeatureId, float]]]
    """Distances to neighbours, where they are asked for."""


def selected_ahead(
    loader: Selecting, features: Iterable[FeatureId], workers: int, ahead: int | None
) -> Generator[Selection | Failure, None, None]:
    """`loader.select` of each feature, in order, by `workers` processes, `ahead` of them asked for in advance."""
    if workers < 0:
        raise InputError(f"workers={workers}; give a number of processes, or 0 for this one")
    if ahead is not None and ahead < 1:
        raise InputError(f"ahead={ahead}; give at least 1")
    if workers == 0:
        return (loader.select(feature) for feature in features)
    _require_picklable(loader.constructor)
    return _selected_by_processes(loader, features, workers, ahead or AHEAD_PER_WORKER * workers)


def _selected_by_processes(
    loader: Selecting, features: Iterable[FeatureId], workers: int, ahead: int
) -> Generator[Selection | Failure, None, None]:
    waiting: deque[tuple[FeatureId, Future[Selection | Failure | None]]] = deque()
    with TemporaryDirectory(prefix="sae-auto-interp-") as rows, _processes(loader, Path(rows), workers) as pool:
        for feature in features:
            with _interrupts_held():  # the pool starts its processes here
                waiting.append((feature, pool.submit(_select, feature)))
            if len(waiting) == ahead:
                yield _outcome(loader, *waiting.popleft())
        while waiting:
            yield _outcome(loader, *waiting.popleft())


@contextmanager
def _processes(loader: Selecting, rows: Path, workers: int) -> Generator[ProcessPoolExecutor, None, None]:
    _save_rows(loader.grid.rows, rows)
    n_documents = len(loader.grid.rows.document_names)
    cache = loader.dataset.raw_dir.resolve()
    job = _Job(cache, rows, n_documents, loader.cfg, type(loader), loader.constructor, loader.distances)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(job,))
    try:
        yield pool
    except BrokenExecutor as error:
        raise WorkerError(
            "a process that builds records ended early; was it killed for memory? Ask for fewer workers, or 0. "
            'A script that asks for workers needs `if __name__ == "__main__":` around what it does'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _outcome(
    loader: Selecting, feature: FeatureId, future: "Future[Selection | Failure | None]"
) -> Selection | Failure:
    """What a process found; where it met one of our errors, the same work here meets it too and raises it as it is."""
    found = future.result()
    return loader.select(feature) if found is None else found


def _require_picklable(constructor: Constructor) -> None:
    """Before any process waits for it."""
    try:
        ForkingPickler.dumps(constructor)
    except (PicklingError, AttributeError, TypeError) as error:
        raise InputError(
            f"the constructor {constructor!r} cannot be sent to other processes; give a function of a module, "
            "or workers=0"
        ) from error


@contextmanager
def _interrupts_held() -> Generator[None, None, None]:
    """Processes started inside never see ctrl-C, which a terminal sends to all: the one that started them ends them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _save_rows(rows: TokenRows, directory: Path) -> None:
    try:
        np.save(directory / "tokens.npy", rows.tokens)
        np.save(directory / "documents.npy", rows.documents)
    except OSError as error:
        raise WorkerError(
            f"the tokens cannot be handed to other processes through {directory} ({error}); make room there, "
            "name another place in the environment variable TMPDIR, or ask for 0 workers"
        ) from error


def _load_rows(directory: Path, n_documents: int) -> TokenRows:
    """The rows, memory-mapped; of the documents' names only the number is kept, which is all that a selection needs."""
    tokens, documents = (np.load(directory / f"{name}.npy", mmap_mode="r") for name in ("tokens", "documents"))
    return TokenRows(tokens, documents, ("",) * n_documents)


# ------------------------------------------------------------------ in the other processes


class _Worker:
    """The state of such a process."""

    job: _Job
    loader: Selecting | None = None


def _start(job: _Job) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _Worker.job = job
    threading.Thread(target=_end_with_parent, args=(job.rows,), daemon=True).start()


def _end_with_parent(rows: Path) -> None:
    """A parent that was killed could not end us."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "this runs in a process that another one started"
    parent.join()
    shutil.rmtree(rows, ignore_errors=True)
    os._exit(1)


def _select(feature: FeatureId) -> Selection | Failure | None:
    """The selection of one feature, or None in place of an error of ours (which may not survive the way back)."""
    try:
        if _Worker.loader is None:
            job = _Worker.job
            rows = _load_rows(job.rows, job.n_documents)
            dataset = FeatureDataset(job.cache, job.cfg, features={}, ctx_len=rows.ctx_len)
            _Worker.loader = job.make_loader(rows, dataset, job.constructor, neighbours=())
            _Worker.loader.distances = job.distances
        return _Worker.loader.select(feature)
    except SaeAutoInterpError:
        return None
