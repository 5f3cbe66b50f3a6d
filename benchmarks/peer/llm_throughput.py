"""Explanation, detection and fuzzing of a store's features by the peer's own pipeline, in the peer's own order.

Its scorers run one after the other on each feature, as its `Pipe` has them; `limit` is what `Pipeline.run` is given.
"""

import asyncio
import resource
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import orjson  # pyright: ignore[reportMissingImports]
import torch
from delphi.clients import OpenRouter  # pyright: ignore[reportMissingImports]
from delphi.config import ConstructorConfig, SamplerConfig  # pyright: ignore[reportMissingImports]
from delphi.explainers import DefaultExplainer  # pyright: ignore[reportMissingImports]
from delphi.latents import LatentDataset  # pyright: ignore[reportMissingImports]
from delphi.pipeline import Pipe, Pipeline, process_wrapper  # pyright: ignore[reportMissingImports]
from delphi.scorers import DetectionScorer, FuzzingScorer  # pyright: ignore[reportMissingImports]
from transformers import PreTrainedTokenizerFast

from benchmarks.child import answer
from benchmarks.llm_serving import serving
from benchmarks.measured import measured
from benchmarks.workload import MODEL, PEER_STORE, STORE_MODULE, scratch_folder

SCORERS = {"detection": DetectionScorer, "fuzz": FuzzingScorer}


def measure(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Requests per second, how many were in flight, and the processor time per request."""
    written = scratch_folder(folder, "peer")
    shutil.rmtree(written, ignore_errors=True)
    for name in ("explanations", *SCORERS):
        (written / name).mkdir(parents=True)
    with serving(settings["latency_seconds"]) as server:
        client = OpenRouter("benchmark", api_key="none", base_url=f"{server.root}/v1/chat/completions")
        pipeline = _pipeline(client, _dataset(settings, folder), settings, written)
        with measured() as taken:
            began = _cpu_seconds()
            asyncio.run(pipeline.run(settings["limit"]))
            cpu = _cpu_seconds() - began
        stats = server.stats()
    n = stats["requests"]
    return taken.as_result() | {
        "requests": n,
        "requests_per_second": round(n / taken.seconds, 2),
        "cpu_ms_per_request": round(1e3 * cpu / n, 4),
        "mean_in_flight": round(stats["mean_in_flight"], 2),
        "characters_per_feature": round(stats["characters"] / settings["n_features"]),
        "scores": sum(1 for name in SCORERS for _ in (written / name).iterdir()),
    }


def _dataset(settings: dict[str, Any], folder: Path) -> Any:
    sampler = SamplerConfig(
        n_examples_train=settings["n_train"], n_examples_test=settings["n_test"],
        n_quantiles=settings["n_quantiles"], train_type="quantiles",
    )  # fmt: skip
    constructor = ConstructorConfig(
        example_ctx_len=settings["window"], min_examples=settings["min_examples"],
        n_non_activating=settings["n_non_activating"], non_activating_source="random",
    )  # fmt: skip
    return LatentDataset(
        folder / PEER_STORE, sampler, constructor,
        tokenizer=PreTrainedTokenizerFast(tokenizer_file=str(folder / MODEL / "tokenizer.json")),
        modules=[STORE_MODULE], latents={STORE_MODULE: torch.arange(settings["n_features"])},
    )  # fmt: skip


def _pipeline(client: Any, dataset: Any, settings: dict[str, Any], written: Path) -> Any:
    explain = process_wrapper(
        DefaultExplainer(client, threshold=0.3), postprocess=partial(_explained, folder=written / "explanations")
    )
    scores = [
        process_wrapper(
            scorer(client, n_examples_shown=settings["n_shown"]),
            preprocess=_to_score,
            postprocess=partial(_scored, folder=written / name),
        )
        for name, scorer in SCORERS.items()
    ]
    return Pipeline(dataset, Pipe(explain), Pipe(*scores))


def _explained(result: Any, folder: Path) -> Any:
    (folder / f"{result.record.latent}.txt").write_bytes(orjson.dumps(result.explanation))
    return result


def _to_score(result: Any) -> Any:
    result = result[0] if isinstance(result, list) else result
    record = result.record
    record.explanation = result.explanation
    record.extra_examples = record.not_active
    return record


def _scored(result: Any, folder: Path) -> Any:
    (folder / f"{result.record.latent}.txt").write_bytes(orjson.dumps(result.score))
    return result


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    answer(measure)
