"""Seconds and peak memory of one piece of work in this process.

Memory is the resident set, mapped file pages included: its peak during the work, less what it was at the start. The
kernel's record of the peak is set back first (Linux, /proc/self/clear_refs); where that is not allowed the
peak covers loading too, which is said with the number.
"""

import ctypes
import gc
import resource
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLEAR_REFS = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")
FORGET_PEAK = "5"


@dataclass(slots=True)
class Taken:
    """Filled when the work is done."""

    seconds: float = 0.0
    loaded_mib: float = 0.0
    """Resident before the work: interpreter, model, autoencoder."""
    above_loaded_mib: float = 0.0
    """Peak during the work, less `loaded_mib`."""
    peak_covers_loading: bool = False

    def as_result(self) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds, 4),
            "loaded_mib": round(self.loaded_mib, 1),
            "above_loaded_mib": round(self.above_loaded_mib, 1),
            "peak_covers_loading": self.peak_covers_loading,
        }


@contextmanager
def measured() -> Generator[Taken, None, None]:
    """Measure the body of a `with`; what was freed before is handed back to the system first."""
    gc.collect()
    _trim()
    taken = Taken(loaded_mib=_status_mib("VmRSS"), peak_covers_loading=not _forget_peak())
    started = time.perf_counter()
    yield taken
    taken.seconds = time.perf_counter() - started
    taken.above_loaded_mib = _status_mib("VmHWM") - taken.loaded_mib


def bytes_below(folder: Path) -> int:
    """Size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _forget_peak() -> bool:
    try:
        CLEAR_REFS.write_text(FORGET_PEAK)
    except OSError:
        return False
    return True


def _status_mib(field: str) -> float:
    """A size in the kernel's account of this process; elsewhere than on Linux the peak of the whole process."""
    if not STATUS.is_file():
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
    return int(lines[field].split()[0]) / 1024


def _trim() -> None:
    """Freed memory that the allocator keeps would hide what the work itself allocates."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
