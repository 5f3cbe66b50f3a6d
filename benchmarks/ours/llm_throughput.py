"""Records, explanation, detection and fuzzing of a store's features by our pipeline, from cache to results.sqlite."""

import asyncio
import io
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.child import answer
from benchmarks.llm_serving import Served, serving
from benchmarks.measured import measured
from benchmarks.workload import NATIVE_STORE, TOKENS, scratch_folder
from sae_auto_interp.config import RunConfig, parse_config
from sae_auto_interp.features import FeatureDataset, FeatureLoader
from sae_auto_interp.pipeline.clients.open_clients import open_clients
from sae_auto_interp.pipeline.progress.displays import LineProgress
from sae_auto_interp.pipeline.resolved import resolve
from sae_auto_interp.pipeline.stages import explain_and_score
from sae_auto_interp.results import ResultStore


def measure(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Requests per second, how many were in flight, and our processor time per request."""
    results = scratch_folder(folder, "ours") / "results.sqlite"
    results.parent.mkdir(exist_ok=True)
    for leftover in results.parent.glob("*.sqlite*"):
        leftover.unlink()
    with serving(settings["latency_seconds"]) as server:
        config = configuration(settings, server.root, results.parent / "answers.sqlite")
        dataset = FeatureDataset(folder / NATIVE_STORE, resolve(config).records.config)
        loader = FeatureLoader(np.load(folder / TOKENS, mmap_mode="r"), dataset)
        with measured() as taken:
            began = time.process_time()
            asyncio.run(_run(config, loader, results, server))
            cpu = time.process_time() - began
        stats = server.stats()
    with ResultStore.open(results, read_only=True) as store:
        n_scores = len(store.scores())
    return taken.as_result() | throughput(stats, taken.seconds, cpu, settings) | {"scores": n_scores}


def configuration(settings: dict[str, Any], root: str, answers: Path) -> RunConfig:
    """The run file of the measurement; the subject model is only a name."""
    names = ("window", "n_train", "n_test", "n_quantiles", "min_examples", "n_features")
    records = {name: settings[name] for name in names}
    shown = {"n_shown": settings["n_shown"]}
    return parse_config({
        "model": "none", "autoencoders": ["none"], "n_shuffled": 0, "n_hidden": 0, "n_lexical": 0,
        "features": records | {
            "sampling": "quantile", "n_non_activating_train": 0, "n_non_activating_test": settings["n_non_activating"],
        },
        "explainers": ["simple"],
        "scorers": [{"name": "detection"} | shown, {"name": "fuzzing"} | shown],
        "client": {"base_url": f"{root}/v1", "max_concurrency": settings["limit"]},
        "responses": {"path": str(answers)},
    })  # fmt: skip


def throughput(stats: dict[str, Any], seconds: float, cpu: float, settings: dict[str, Any]) -> dict[str, Any]:
    """What follows from the server's count and our time."""
    n = stats["requests"]
    return {
        "requests": n,
        "requests_per_second": round(n / seconds, 2),
        "cpu_ms_per_request": round(1e3 * cpu / n, 4),
        "steady_concurrency": round(stats["steady_in_flight"] / settings["limit"], 4),
        "mean_in_flight": round(stats["mean_in_flight"], 2),
        "wall_over_ideal": round(seconds / (n * settings["latency_seconds"] / settings["limit"]), 4),
        "characters_per_feature": round(stats["characters"] / settings["n_features"]),
    }


async def _run(config: RunConfig, loader: FeatureLoader, results: Path, server: Served) -> None:
    with ResultStore.open(results) as store, LineProgress(io.StringIO()) as progress:
        async with open_clients(resolve(config).endpoints, store, progress.note, "score") as clients:
            server.forget()
            await explain_and_score(resolve(config), loader, store, clients, progress)


if __name__ == "__main__":
    answer(measure)
