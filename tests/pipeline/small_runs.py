"""Explaining and scoring over a small made-up cache, in this process, by a scripted language model."""

import asyncio
import io
import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from sae_auto_interp.clients import LimitedClient, RetryingClient, ScriptedClient
from sae_auto_interp.config import RunConfig, parse_config
from sae_auto_interp.features import FeatureLoader
from sae_auto_interp.pipeline.clients.open_clients import RunClients
from sae_auto_interp.pipeline.controls.nearest_control import NearestFeatures
from sae_auto_interp.pipeline.progress.displays import LineProgress
from sae_auto_interp.pipeline.record_stage import open_loader
from sae_auto_interp.pipeline.resolved import Stage, resolve
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.stages import explain_and_score
from sae_auto_interp.results import ResultStore
from sae_auto_interp.results.digests import DIGESTED
from sae_auto_interp.types import Request
from tests.support.explaining import is_to_explain
from tests.support.records import make_rows, write_cache

MODULES = ("transformer.h.1", "transformer.h.2")
WIDTH = 12
TABLES = ("records", "explanations", "scores", "failures", "finished")


def write_small_cache(folder: Path) -> RunDirectory:
    """Two modules of twelve features; every third fires in too few windows, often enough on paper."""
    rows = make_rows(200, 33, vocab=30_000, rows_per_document=4)
    made = RunDirectory(folder)
    rng = np.random.default_rng(0)
    entries = {module: _entries(rows, rng) for module in MODULES}
    write_cache(made.features, rows, entries, width=WIDTH)
    made.save_tokens(rows)
    return made


def _entries(rows: Any, rng: np.random.Generator) -> list[tuple[int, int, int, float]]:
    return [
        (int(row), int(position), feature, float(rng.integers(1, 9)))
        for feature in range(WIDTH)
        for row in (range(200) if feature % 3 else range(4))
        for position in np.flatnonzero((rows.documents[row] >= 0) & (rng.random(33) < (0.05 if feature % 3 else 0.9)))
    ]


def configuration(features: dict[str, Any] | None = None, limit: int = 7, **more: Any) -> RunConfig:
    settings = {
        "window": 8, "n_train": 10, "n_test": 10, "n_quantiles": 5, "min_examples": 10, "n_features": 5,
        "n_non_activating_train": 10, "n_non_activating_test": 10,
    }  # fmt: skip
    base: dict[str, Any] = {
        "model": "m", "autoencoders": ["a"], "explainers": ["simple", "lexical"],
        "client": {"base_url": "http://127.0.0.1:1/v1", "max_concurrency": limit},
    }  # fmt: skip
    return parse_config(base | {"features": settings | (features or {})} | more)


def answers(request: Request) -> str:
    """By the text of the request alone: an explanation, now and then one that cannot be read; or verdicts."""
    content = request.messages[-1].content
    digest = zlib.crc32(content.encode("utf-8", "surrogatepass"))
    if is_to_explain(request):
        return f"[EXPLANATION]: words of kind {digest}" if digest % 6 else "I cannot say."
    n = content.count("\n\nExcerpt ")
    return str([(digest >> i) & 1 for i in range(n)]) if digest % 11 else "no idea"


class Jittery(ScriptedClient):
    """Answers out of order: the time that an answer takes depends on its request."""

    async def generate(self, request: Request) -> Any:
        await asyncio.sleep(zlib.crc32(request.canonical_json().encode("utf-8", "surrogatepass")) % 5 / 1000)
        return await super().generate(request)


def run(
    config: RunConfig,
    loader: FeatureLoader,
    results: Path,
    script: Callable[[Request], Any] = answers,
    until: Stage = "score",
    nearest: NearestFeatures | None = None,
) -> tuple[ScriptedClient, str]:
    """Run to the end; the language model with its requests, and what the progress said."""
    client = Jittery(script)
    assert config.client is not None
    limited = RetryingClient(LimitedClient(client, max_concurrency=config.client.max_concurrency), attempts=1)
    said = io.StringIO()
    with ResultStore.open(results) as store, LineProgress(said) as progress:
        clients = RunClients(limited, limited)
        asyncio.run(explain_and_score(resolve(config), loader, store, clients, progress, until, nearest=nearest))
    return client, said.getvalue()


def contents(results: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Everything in the results but the digests, in an order that does not depend on when it was written."""
    with closing(sqlite3.connect(results)) as connection:
        return {
            name: sorted(connection.execute(f"SELECT {', '.join(DIGESTED[name])} FROM {name}"), key=repr)
            for name in TABLES
        }


def loader_of(directory: RunDirectory, config: RunConfig) -> FeatureLoader:
    return open_loader(resolve(config).records, directory)
