"""Records of the first features of a store, by FeatureDataset and FeatureLoader with the peer's counts."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.child import answer
from benchmarks.measured import measured
from benchmarks.workload import NATIVE_STORE, STORE_MODULE, TOKENS
from sae_auto_interp.features import FeatureConfig, FeatureDataset, FeatureLoader
from sae_auto_interp.types import FeatureRecord


def measure(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Records per second from opening the store to the last record, in this process alone."""
    cfg = FeatureConfig(
        window=settings["window"], n_train=settings["n_train"], n_test=settings["n_test"],
        n_quantiles=settings["n_quantiles"], sampling="quantile", min_examples=settings["min_examples"],
        n_non_activating_train=0, n_non_activating_test=settings["n_non_activating"],
    )  # fmt: skip
    root = folder / NATIVE_STORE
    n_records = n_examples = 0
    first_seconds = None
    with measured() as taken:
        started = time.perf_counter()
        dataset = FeatureDataset(root, cfg, features={STORE_MODULE: range(settings["n_features"])})
        for record in FeatureLoader(np.load(folder / TOKENS, mmap_mode="r"), dataset):
            first_seconds = first_seconds or time.perf_counter() - started
            n_records += 1
            n_examples += _n_read(record)
    return taken.as_result() | {
        "records": n_records,
        "records_per_second": round(n_records / taken.seconds, 2),
        "first_record_seconds": round(first_seconds or 0.0, 4),
        "examples_per_record": round(n_examples / max(1, n_records), 2),
    }


def _n_read(record: FeatureRecord) -> int:
    """Examples whose strings are there."""
    examples = [*record.train, *record.test, *record.non_activating.test]
    return sum(len(example.str_tokens) == len(example.tokens) for example in examples)


if __name__ == "__main__":
    answer(measure)
