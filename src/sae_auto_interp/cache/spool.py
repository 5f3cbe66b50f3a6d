"""Activations on their way to disk: bounded buffers, spilled as feature-sorted runs, with a journal.

A run holds, for one module, `offsets` [width + 1], `locations` and `activations` sorted by feature and then by
location. The journal gains a line only after a run's files are safely on disk; what is not in the journal
is thrown away on the next opening, and the caller starts again from `rows_done`. The buffers hold `max_bytes` plus one
batch, however many tokens pass through; sorting a module's part takes about three times that part for a moment.
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Int64

from sae_auto_interp.cache.layout import location_dtype, write_arrays, write_text
from sae_auto_interp.errors import CacheError
from sae_auto_interp.types import Array

JOURNAL = "journal.jsonl"
LEAST_LOSS_SECONDS = 5.0
LEAST_LOSS_FRACTION = 0.05
"""A kill costs at most this much work (the larger of the two), however large the buffers are."""


@dataclass(slots=True)
class _Buffer:
    features: list[Array] = field(default_factory=lambda: [])
    locations: list[Array] = field(default_factory=lambda: [])
    activations: list[Array] = field(default_factory=lambda: [])


class Spool:
    """Where a streaming writer puts activations. Opening an existing directory resumes it.

    `widths` gives {module path: width}; `max_bytes` 0 makes every commit a run; `clock` counts seconds. Raises
    `CacheError` when the directory belongs to other work (another `fingerprint`), or when its journal or a run in it
    is lost or damaged.
    """

    def __init__(
        self,
        directory: Path,
        widths: Mapping[str, int],
        *,
        n_positions: int,
        dtype: str,
        max_bytes: int,
        fingerprint: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._began = clock()
        self.directory = directory
        self.widths = dict(widths)
        self.rows_done = 0
        self.n_runs = 0
        self.location_dtype = location_dtype(n_positions)
        self._dtype: np.dtype[Any] = np.dtype(dtype)
        self._max_bytes = max_bytes
        self._start_buffers()
        directory.mkdir(parents=True, exist_ok=True)
        self._open_journal(fingerprint)

    def append(
        self, module: str, features: Int[Array, " n"], locations: Int64[Array, " n"], activations: Float[Array, " n"]
    ) -> None:
        """Add entries of one module; locations must be in order, and not smaller than any given before."""
        buffer = self._buffers[module]
        buffer.features.append(_narrow(features, self.widths[module]))
        buffer.locations.append(locations.astype(self.location_dtype))
        buffer.activations.append(stored(activations, self._dtype))
        self._bytes += sum(column[-1].nbytes for column in (buffer.features, buffer.locations, buffer.activations))

    def commit(self, rows_done: int, *, last: bool = False) -> None:
        """All modules hold everything up to `rows_done`; spill when the buffers are full, in time, or at the end."""
        if self._bytes < self._max_bytes and not last and not self._is_time():
            return
        for index, (module, width) in enumerate(self.widths.items()):
            run = _sorted_run(self._buffers.pop(module), width, self.location_dtype, self._dtype)
            write_arrays(self._run_path(self.n_runs, index), run)
        self._write_journal({"run": self.n_runs, "rows_done": rows_done})
        self.rows_done = rows_done
        self.n_runs += 1
        self._start_buffers()

    def run_files(self, module: str) -> list[Path]:
        """The runs of one module, in order of location."""
        index = list(self.widths).index(module)
        return [self._run_path(run, index) for run in range(self.n_runs)]

    def _start_buffers(self) -> None:
        self._buffers = {module: _Buffer() for module in self.widths}
        self._bytes = 0
        self._spilled_at = self._clock()

    def _is_time(self) -> bool:
        """Whether a kill now would cost too much; the growing interval keeps the number of runs small."""
        now = self._clock()
        return now - self._spilled_at >= max(LEAST_LOSS_SECONDS, LEAST_LOSS_FRACTION * (now - self._began))

    def _run_path(self, run: int, module_index: int) -> Path:
        return self.directory / f"run{run:05d}_{module_index}.safetensors"

    def _open_journal(self, fingerprint: str) -> None:
        path = self.directory / JOURNAL
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        whole = text[: text.rfind("\n") + 1]  # a line that a crash cut short was never promised
        lines = _parsed(whole, path)
        if not lines:
            header = {"fingerprint": fingerprint, "modules": list(self.widths)}
            write_text(path, json.dumps(header) + "\n")
        elif lines[0].get("fingerprint") != fingerprint:
            raise CacheError(
                f"{self.directory} holds a half-finished cache of another configuration; "
                "delete it or choose another directory"
            )
        elif whole != text:
            write_text(path, whole)
        for number, line in enumerate(lines[1:]):
            if line.get("run") != number or not isinstance(line.get("rows_done"), int):
                raise _damaged_journal(path)
            self.n_runs, self.rows_done = number + 1, line["rows_done"]
        self._discard_unjournaled()

    def _discard_unjournaled(self) -> None:
        kept = {path for module in self.widths for path in self.run_files(module)}
        for path in self.directory.glob("*run*_*.safetensors*"):
            if path not in kept:
                path.unlink()
        missing = sorted(str(path) for path in kept if not path.is_file())
        if missing:
            raise CacheError(f"the half-finished cache lost {missing[0]}; delete {self.directory} and cache again")

    def _write_journal(self, line: Mapping[str, object]) -> None:
        with (self.directory / JOURNAL).open("a", encoding="utf-8", newline="\n") as stream:
            stream.write(json.dumps(line) + "\n")
            stream.flush()
            os.fsync(stream.fileno())


def stored(activations: Float[Array, " n"], dtype: np.dtype[Any]) -> Array:
    """Activations in the stored type, rounded as numpy does, but for its two ends.

    What becomes infinite is refused with `CacheError`; what vanishes is kept as the smallest number there is.
    """
    with np.errstate(over="ignore", under="ignore"):
        narrow = activations.astype(dtype)
    if not np.isfinite(narrow).all():
        largest = float(np.abs(activations).max())
        if not np.isfinite(largest):
            raise CacheError(f"an activation is {largest}: the subject model or an autoencoder overflows")
        raise CacheError(f"an activation of {largest:.6g} does not fit {dtype}; set activation_dtype to float32")
    vanished = (narrow == 0) & (activations != 0)
    if vanished.any():
        smallest = np.finfo(dtype.name).smallest_subnormal
        narrow[vanished] = np.copysign(smallest, activations[vanished]).astype(dtype)
    return narrow


def _sorted_run(
    buffer: _Buffer, width: int, location_type: np.dtype[np.unsignedinteger], dtype: np.dtype[Any]
) -> dict[str, Array]:
    features = np.concatenate(buffer.features) if buffer.features else np.empty(0, np.uint16)
    locations = np.concatenate(buffer.locations) if buffer.locations else np.empty(0, location_type)
    activations = np.concatenate(buffer.activations) if buffer.activations else np.empty(0, dtype)
    order = np.argsort(features, kind="stable")
    offsets = np.zeros(width + 1, dtype=np.int64)
    np.cumsum(np.bincount(features, minlength=width), out=offsets[1:])
    return {"offsets": offsets, "locations": locations[order], "activations": activations[order]}


def _narrow(features: Int[Array, " n"], width: int) -> Array:
    """16-bit indices where they fit: numpy sorts those in linear time."""
    return features.astype(np.uint16 if width <= 1 << 16 else np.uint32)


def _parsed(lines: str, path: Path) -> list[dict[str, Any]]:
    try:
        parsed: list[Any] = [json.loads(line) for line in lines.splitlines()]
    except ValueError as error:
        raise _damaged_journal(path) from error
    if not all(isinstance(line, dict) for line in parsed):
        raise _damaged_journal(path)
    return parsed


def _damaged_journal(path: Path) -> CacheError:
    return CacheError(f"{path} is damaged; delete {path.parent} and cache again")
