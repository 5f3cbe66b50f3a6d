"""Explain and score many features against a server in another process: FOLDER N_FEATURES BASE_URL.

Prints how much memory was resident after each share of the requests, and how long a resumed run takes that finds
everything done.
"""

import asyncio
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workload import NATIVE_STORE, TOKENS
from sae_auto_interp.clients import LimitedClient, OpenAIClient, RetryingClient
from sae_auto_interp.config import RunConfig, parse_config
from sae_auto_interp.features import FeatureDataset, FeatureLoader
from sae_auto_interp.pipeline.clients.open_clients import RunClients
from sae_auto_interp.pipeline.progress.displays import LineProgress
from sae_auto_interp.pipeline.resolved import resolve
from sae_auto_interp.pipeline.stages import explain_and_score
from sae_auto_interp.results import ResultStore

SAMPLE_EVERY_SECONDS = 0.05
N_ANSWERS = 41
"""Of each feature: an explanation, and 100 examples under two scorers, five in a prompt."""


def configuration(n_features: int, base_url: str) -> RunConfig:
    features = {
        "window": 8, "n_features": n_features, "n_train": 10, "n_test": 50, "n_non_activating_train": 0,
        "n_non_activating_test": 50, "min_examples": 20,
    }  # fmt: skip
    client = {"base_url": base_url, "max_concurrency": 64}
    content: dict[str, Any] = {
        "features": features,
        "explainers": ["simple"],
        "client": client,
        "n_shuffled": 0,
        "n_hidden": 0,
        "n_lexical": 0,
    }
    return parse_config({"model": "none", "autoencoders": ["none"]} | content)


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


async def explain(config: RunConfig, folder: Path, samples: list[tuple[int, float]]) -> float:
    """Seconds from the open store and cache to the end."""
    assert config.client is not None
    dataset = FeatureDataset(folder / NATIVE_STORE, resolve(config).records.config)
    loader = FeatureLoader(np.load(folder / TOKENS, mmap_mode="r"), dataset)
    asked = OpenAIClient(base_url=config.client.base_url or "", model="benchmark")
    client = RetryingClient(LimitedClient(asked, max_concurrency=config.client.max_concurrency))
    with ResultStore.open(folder / "results.sqlite") as store, LineProgress(io.StringIO()) as progress:

        async def watch() -> None:
            while True:
                if progress.request_counts is not None:
                    samples.append((progress.request_counts.n_answered, resident_mib()))
                await asyncio.sleep(SAMPLE_EVERY_SECONDS)

        watcher = asyncio.create_task(watch())
        began = time.perf_counter()
        try:
            await explain_and_score(resolve(config), loader, store, RunClients(client, client), progress)
        finally:
            watcher.cancel()
            await client.close()
        return time.perf_counter() - began


def quarters(samples: list[tuple[int, float]], total: int) -> list[float]:
    """Mean resident MiB in each quarter of the requests."""
    shares = [[mib for n, mib in samples if i * total / 4 <= n < (i + 1) * total / 4] for i in range(4)]
    return [round(float(np.mean(share)), 2) for share in shares]


def main(folder: Path, n_features: int, base_url: str) -> None:
    config = configuration(n_features, base_url)
    samples: list[tuple[int, float]] = []
    seconds = asyncio.run(explain(config, folder, samples))
    resumed = asyncio.run(explain(config, folder, []))
    found = {"quarters_mib": quarters(samples, n_features * N_ANSWERS), "seconds": seconds, "resume_seconds": resumed}
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
