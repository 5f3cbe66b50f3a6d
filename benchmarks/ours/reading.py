"""Open a cache and read single features, each one slice, with its files in the system's page cache."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.child import answer
from benchmarks.measured import measured
from benchmarks.workload import NATIVE_STORE
from sae_auto_interp.features import FeatureDataset

CHUNK_BYTES = 1 << 24


def measure(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Milliseconds to a feature's entries: median, 95th percentile and longest over random features that fire."""
    root = folder / NATIVE_STORE
    _warm(root)
    with measured() as taken:
        started = time.perf_counter()
        dataset = FeatureDataset(root)
        open_seconds = time.perf_counter() - started
        rng = np.random.default_rng(settings["seed"])
        picks = rng.choice(len(dataset), min(settings["n_features"], len(dataset)), replace=False)
        reads = [_read(dataset, int(pick)) for pick in picks]
    milliseconds = np.array([read[0] for read in reads]) * 1e3
    n_entries = np.array([read[1] for read in reads])
    n_activations = sum(s.n_activations for reader in dataset.readers.values() for s in reader.manifest.shards)
    return taken.as_result() | {
        "n_activations": int(n_activations),
        "n_read": len(reads),
        "open_seconds": round(open_seconds, 4),
        "median_ms": round(float(np.median(milliseconds)), 4),
        "p95_ms": round(float(np.percentile(milliseconds, 95)), 4),
        "longest_ms": round(float(milliseconds.max()), 4),
        "entries_of_longest": int(n_entries[milliseconds.argmax()]),
        "most_entries": int(n_entries.max()),
    }


def _read(dataset: FeatureDataset, pick: int) -> tuple[float, int]:
    """Seconds to one feature's entries, and how many there are."""
    started = time.perf_counter()
    entries = dataset.entries(dataset.features[pick])
    return time.perf_counter() - started, len(entries.locations)


def _warm(root: Path) -> None:
    """Read every byte once."""
    for path in root.rglob("*.safetensors"):
        with path.open("rb") as stream:
            while stream.read(CHUNK_BYTES):
                pass


if __name__ == "__main__":
    answer(measure)
