"""Explain and score a small run in a process of its own: RUN_DIRECTORY RESULTS BASE_URL LIMIT [N_FEATURES]."""

import asyncio
import sys
from pathlib import Path

from sae_auto_interp.clients import LimitedClient, OpenAIClient, RetryingClient
from sae_auto_interp.pipeline.clients.open_clients import RunClients
from sae_auto_interp.pipeline.progress.displays import make_progress
from sae_auto_interp.pipeline.resolved import resolve
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.stages import explain_and_score
from sae_auto_interp.results import ResultStore
from tests.pipeline.small_runs import configuration, loader_of
from tests.support.scripted_llm import MODEL


async def main(directory: Path, results: Path, base_url: str, limit: int) -> None:
    config = configuration(explainers=["simple"], client={"base_url": base_url, "max_concurrency": limit})
    asked = OpenAIClient(base_url=base_url, model=MODEL)
    client = RetryingClient(LimitedClient(asked, max_concurrency=limit))
    try:
        with ResultStore.open(results) as store, make_progress() as progress:
            loader = loader_of(RunDirectory(directory), config)
            await explain_and_score(resolve(config), loader, store, RunClients(client, client), progress)
    finally:
        await client.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
