"""One writer per results file, across processes and after kill -9.

The operating system's lock on an open file (flock; msvcrt.locking on Windows) is released by the kernel when the
process ends, however it ends; a file whose mere existence is the lock would outlive a crash. SQLite's own exclusive
mode would also shut out the report that reads while a run is on.

The lock file stays behind, empty of meaning: deleting it would let two writers lock two different files.
"""

import os
import sys
from pathlib import Path

from sae_auto_interp.errors import RunDirectoryError

if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _try_lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class WriterLock:
    """Held from construction to `release`."""

    def __init__(self, target: Path) -> None:
        path = target.with_name(target.name + ".lock")
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _try_lock(self._descriptor)
        except OSError as error:
            os.close(self._descriptor)
            raise RunDirectoryError(
                f"{target} is being written by another process ({error.strerror}); wait until that run ends or "
                f"stop it, or give another run directory"
            ) from None

    def release(self) -> None:
        """Closing the file releases the lock."""
        os.close(self._descriptor)


def is_being_written(target: Path) -> bool:
    """Whether a process holds the lock of a results file just now."""
    if not target.with_name(target.name + ".lock").is_file():
        return False
    try:
        WriterLock(target).release()
    except RunDirectoryError:
        return True
    return False
