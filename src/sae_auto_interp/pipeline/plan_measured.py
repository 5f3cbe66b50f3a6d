"""What a plan need not guess where the subject model and its autoencoders may be loaded: `plan --measure`.

They are loaded and checked as a run does it first (`check`), on a few thousand tokens. How many features fire per
token decides how large the cache becomes, and most of a run's memory is in use by then.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sae_auto_interp.config import RunConfig
from sae_auto_interp.errors import PreflightError
from sae_auto_interp.pipeline.commands.check import run_check
from sae_auto_interp.protocols import Progress
from sae_auto_interp.types.fit import Preflight

MIB = 2**20
STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Measured:
    """Of all autoencoders of a run file together."""

    active_per_token: float
    """Entries of the cache for each token of text."""
    peak_mib: float | None
    """Most memory that this process had so far; None where the system does not tell."""


def measured(config: RunConfig, progress: Progress) -> Measured:
    """Load and check. Raises what a run would raise for what cannot be loaded; what does not fit is not judged here."""
    active = active_of(run_check(config, progress))
    if active is None:
        raise PreflightError(["the autoencoders cannot be measured; see what `sae-auto-interp check` says of them"])
    return Measured(active, peak_mib())


def active_of(checks: Sequence[Preflight]) -> float | None:
    """Entries per token of all autoencoders; None where one was not measured."""
    found = [None if check.figures is None else check.figures.l0 for check in checks]
    known = [l0 for l0 in found if l0 is not None]
    return sum(known) if known and len(known) == len(found) else None


def peak_mib() -> float | None:
    """Resident memory of this process at its most; None where the system does not tell (Windows).

    Linux's `ru_maxrss` is never less than what the parent held when it started this process: a notebook's would be
    taken for the run's. The kernel's status file is about this program alone.
    """
    status = STATUS.read_text() if STATUS.is_file() else ""
    found = re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)
    if found:
        return int(found[1]) / 1024
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / MIB if sys.platform == "darwin" else most / 1024
