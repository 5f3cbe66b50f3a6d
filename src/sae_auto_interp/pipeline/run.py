"""The driver: the stages in order, on one run directory, under one writer."""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from sae_auto_interp import __version__
from sae_auto_interp.config import RunConfig
from sae_auto_interp.errors import RunDirectoryError
from sae_auto_interp.pipeline.cache_stage import run_cache_stage
from sae_auto_interp.pipeline.components import check_components, explainer_name, open_client
from sae_auto_interp.pipeline.explain_stage import run_explain_stage
from sae_auto_interp.pipeline.interrupts import immediate_interrupts
from sae_auto_interp.pipeline.model_readers import asks_client, model_readers
from sae_auto_interp.pipeline.preflight_stage import stored_summary
from sae_auto_interp.pipeline.progress import StageProgress
from sae_auto_interp.pipeline.record_stage import feature_config, run_record_stage
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.score_stage import run_score_stage
from sae_auto_interp.protocols import Client
from sae_auto_interp.results import ResultStore

Stage = Literal["cache", "explain", "score"]


async def run_pipeline(config: RunConfig, root: Path, progress: StageProgress, until: Stage = "score") -> None:
    """Do what is not done yet, up to and including `until`.

    Killed or interrupted at any point, the same call goes on where it stopped and ends with the same results. Raises
    our errors for a wrong configuration, a run directory of another one, or an endpoint that cannot be reached,
    all before any work is done.
    """
    feature_config(config)
    check_components(config)
    directory = RunDirectory(root)
    directory.claim(config)
    with ResultStore.open(directory.results) as store:
        client = await _client(config, directory, store, progress, until)
        try:
            async with model_readers(config, directory, client, is_scoring=until == "score") as collaborators:
                directory.save_config(config)
                await _stages(config, directory, store, collaborators, progress, until)
        finally:
            if client is not None:
                await client.close()


async def _stages(
    config: RunConfig,
    directory: RunDirectory,
    store: ResultStore,
    collaborators: Mapping[type, Any],
    progress: StageProgress,
    until: Stage,
) -> None:
    client: Client | None = collaborators[Client]
    _describe(config, directory, store, client)
    with immediate_interrupts():
        run_cache_stage(config, directory, progress)
        checked = stored_summary(directory)
        if checked is not None:
            store.set_info("autoencoder_check", checked)
        if until == "cache":
            return
        run_record_stage(config, directory, store, progress)
    features = store.features()
    if not features:
        raise RunDirectoryError(
            "no feature has enough examples; cache more text (data.n_tokens) or lower features.min_examples"
        )
    await run_explain_stage(config, store, client, features, progress)
    if until == "score":
        await run_score_stage(config, store, collaborators, features, progress)


async def _client(
    config: RunConfig, directory: RunDirectory, store: ResultStore, progress: StageProgress, until: Stage
) -> Client | None:
    """The run's client, when something is to be asked; what it can do is said and kept."""
    needed = any(explainer.name != "lexical" or explainer.judge_name != "lexical" for explainer in config.explainers)
    needed = needed or asks_client(config)
    if config.client is None or not needed or until == "cache":
        return None
    client, abilities = await open_client(config.client, directory.clients)
    progress.note(f"{client.model}: {abilities}")
    store.set_info("client_capabilities", abilities)
    return client


def _describe(config: RunConfig, directory: RunDirectory, store: ResultStore, client: Client | None) -> None:
    """Facts about the run for its report."""
    facts = {
        "model": config.model,
        "autoencoders": ", ".join(autoencoder.label for autoencoder in config.autoencoders),
        "data": config.data.source,
        "explainers": ", ".join(explainer_name(explainer) for explainer in config.explainers),
        "seed": str(config.seed),
        "version": __version__,
        "python": platform.python_version(),
        "fingerprint": directory.fingerprint(),
    }
    if client is not None:
        facts |= {"explainer_model": client.model, "scorer_model": client.model}
    for key, value in facts.items():
        store.set_info(key, value)
