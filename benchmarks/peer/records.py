"""Records of the first features of a store, by the peer's LatentDataset with its own defaults."""

import time
from pathlib import Path
from typing import Any

import torch
from delphi.config import ConstructorConfig, SamplerConfig  # pyright: ignore[reportMissingImports]
from delphi.latents import LatentDataset  # pyright: ignore[reportMissingImports]
from transformers import PreTrainedTokenizerFast

from benchmarks.child import answer
from benchmarks.measured import measured
from benchmarks.workload import MODEL, PEER_STORE, STORE_MODULE


def measure(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Records per second from opening the store to the last record."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / MODEL / "tokenizer.json"))
    sampler = SamplerConfig(
        n_examples_train=settings["n_train"], n_examples_test=settings["n_test"],
        n_quantiles=settings["n_quantiles"], train_type="quantiles",
    )  # fmt: skip
    constructor = ConstructorConfig(
        example_ctx_len=settings["window"], min_examples=settings["min_examples"],
        n_non_activating=settings["n_non_activating"], non_activating_source="random",
    )  # fmt: skip
    n_records = n_examples = 0
    first_seconds = None
    with measured() as taken:
        started = time.perf_counter()
        features = {STORE_MODULE: torch.arange(settings["n_features"])}
        dataset = LatentDataset(
            folder / PEER_STORE, sampler, constructor, tokenizer=tokenizer, modules=[STORE_MODULE], latents=features
        )
        for record in dataset:
            first_seconds = first_seconds or time.perf_counter() - started
            examples = [*record.train, *record.test, *record.not_active]
            n_records += 1
            n_examples += sum(example.str_tokens is not None for example in examples)
    return taken.as_result() | {
        "records": n_records,
        "records_per_second": round(n_records / taken.seconds, 2),
        "first_record_seconds": round(first_seconds or 0.0, 4),
        "examples_per_record": round(n_examples / max(1, n_records), 2),
    }


if __name__ == "__main__":
    answer(measure)
