"""`ResponseStore`: answers of language models on disk, shared by all runs of a user.

Reading is one look-up by primary key and happens where it is asked for. Writing is a thread's: it takes what has come
meanwhile, commits it together, and only then is `keep` done. So an answer that was used is on disk, and the event loop
never waits for a disk or for another process that writes.

A store that can be written no more (a full disk) is no reason to lose a run: it is said once, and the run goes on
without it.

Where a user's caches lie by default, as each system has it.
"""

import asyncio
import logging
import os
import sqlite3
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType

from sae_auto_interp.clients.responses import tables as tables
from sae_auto_interp.clients.responses.codec import StoredAnswer, decode_answer, encode_answer

VARIABLE = "SAE_AUTO_INTERP_CACHE"
"""Environment variable that names another folder."""


_NAME = "sae-auto-interp"


def cache_folder() -> Path:
    """`$SAE_AUTO_INTERP_CACHE`, or the system's place for caches: ~/.cache, ~/Library/Caches, %LOCALAPPDATA%."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / _NAME


_log = logging.getLogger(__name__)


DEFAULT_MAX_BYTES = 4 << 30


USE_SECONDS = 3600.0
"""Uses so soon after the last noted one are not noted: for the order of eviction, an hour is exact enough."""


_READ_BUSY_SECONDS = 1.0


def default_path() -> Path:
    """`responses.sqlite` in the user's folder for caches."""
    return cache_folder() / "responses.sqlite"


@dataclass(frozen=True, slots=True)
class _Added:
    key: bytes
    content: bytes
    done: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class _Used:
    key: bytes


@dataclass(frozen=True, slots=True)
class _Removed:
    key: bytes


_Change = _Added | _Used | _Removed


class ResponseStore:
    """Open it, use it from one event loop, close it. `get` never waits; `keep` is done when the answer is on disk."""

    def __init__(
        self, path: Path | None = None, *, max_bytes: int = DEFAULT_MAX_BYTES, use_seconds: float = USE_SECONDS
    ) -> None:
        """Open or create the cache; raises CacheError for a file that cannot be one."""
        self.path = path or default_path()
        self._max_bytes = max_bytes
        self._use_seconds = use_seconds
        self._writer = tables.connect(self.path)
        self._reader = tables.connect(self.path, busy_seconds=_READ_BUSY_SECONDS)
        self._changes: SimpleQueue[_Change | None] = SimpleQueue()
        self._has_failed = False
        self._damaged: set[bytes] = set()
        self._thread = threading.Thread(target=self._write_all, name="response cache", daemon=True)
        self._thread.start()

    def __enter__(self) -> "ResponseStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def get(self, key: bytes) -> StoredAnswer | None:
        """The answer that is stored under a key; one that cannot be read is dropped, and asked for again."""
        try:
            found = tables.find(self._reader, key)
            if found is None:
                return None
            content, used = found
            answer = decode_answer(content)
        except sqlite3.Error as error:
            self._complain(error)
            return None
        except ValueError as error:
            self._drop(key, error)
            return None
        if time.time() - used > self._use_seconds:
            self._changes.put(_Used(key))
        return answer

    async def keep(self, key: bytes, answer: StoredAnswer) -> None:
        """Store an answer; done when it would survive the death of this process."""
        done = asyncio.get_running_loop().create_future()
        self._changes.put(_Added(key, encode_answer(answer), done))
        await done

    @property
    def troubles(self) -> list[str]:
        """What a user should know of when the store is closed: a line for each kind of trouble; empty in health."""
        n = len(self._damaged)
        lines = [f"{n:,} stored answer{'s' * (n != 1)} in {self.path} had been damaged and did not count"] if n else []
        return lines + (
            [f"the response cache {self.path} failed; not all answers were kept"] if self._has_failed else []
        )

    def total_bytes(self) -> int:
        """What all answers take on disk, within a few percent."""
        return tables.total_bytes(self._reader)

    def close(self) -> None:
        """Write what is waiting and close the files."""
        if self._thread.is_alive():
            self._changes.put(None)
            self._thread.join()
        self._reader.close()
        self._writer.close()

    def _drop(self, key: bytes, error: ValueError) -> None:
        """A damaged answer is no answer: the first is said here, how many there were by whoever opened the store."""
        if not self._damaged:
            _log.warning("the response cache %s is damaged (%s); such answers are asked for again", self.path, error)
        self._damaged.add(key)
        self._changes.put(_Removed(key))

    def _write_all(self) -> None:
        """The thread: one transaction for all that has come since the last one."""
        is_open = True
        while is_open:
            taken = self._taken()
            changes = [change for change in taken if change is not None]
            is_open = len(changes) == len(taken)
            try:
                self._write(changes)
            except (sqlite3.Error, UnicodeDecodeError) as error:
                self._complain(error)
            _tell_done([change.done for change in changes if isinstance(change, _Added)])

    def _taken(self) -> list[_Change | None]:
        taken = [self._changes.get()]
        try:
            while True:
                taken.append(self._changes.get_nowait())
        except Empty:
            return taken

    def _write(self, changes: list[_Change]) -> None:
        tables.write(
            self._writer,
            added=[(change.key, change.content) for change in changes if isinstance(change, _Added)],
            used=[change.key for change in changes if isinstance(change, _Used)],
            removed=[change.key for change in changes if isinstance(change, _Removed)],
            max_bytes=self._max_bytes,
        )

    def _complain(self, error: Exception) -> None:
        """Once: what fails now fails with each answer."""
        if not self._has_failed:
            self._has_failed = True
            _log.warning("the response cache %s fails (%s); answers are not kept from here on", self.path, error)


def _tell_done(futures: list[asyncio.Future[None]]) -> None:
    """Wake those who wait, once per event loop; one that is gone has nobody waiting."""
    for loop in {future.get_loop() for future in futures}:
        own = [future for future in futures if future.get_loop() is loop]
        if not loop.is_closed():
            loop.call_soon_threadsafe(_resolve, own)


def _resolve(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
