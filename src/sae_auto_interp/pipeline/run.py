"""The driver: the stages in order, on one run directory, under one writer."""

import platform
from pathlib import Path
from typing import Literal

from sae_auto_interp import __version__
from sae_auto_interp.config import RunConfig
from sae_auto_interp.errors import RunDirectoryError
from sae_auto_interp.pipeline.cache_stage import run_cache_stage
from sae_auto_interp.pipeline.client_stack import RunClients, open_clients
from sae_auto_interp.pipeline.components import check_components, explainer_name
from sae_auto_interp.pipeline.explain_stage import run_explain_stage
from sae_auto_interp.pipeline.interrupts import immediate_interrupts
from sae_auto_interp.pipeline.preflight_stage import stored_summary
from sae_auto_interp.pipeline.progress import StageProgress
from sae_auto_interp.pipeline.record_stage import feature_config, run_record_stage
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.score_stage import run_score_stage
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
        async with open_clients(config, store, progress.note, until) as clients:
            directory.save_config(config)
            await _stages(config, directory, store, clients, progress, until)


async def _stages(
    config: RunConfig,
    directory: RunDirectory,
    store: ResultStore,
    clients: RunClients,
    progress: StageProgress,
    until: Stage,
) -> None:
    _describe(config, directory, store, clients)
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
    await run_explain_stage(config, store, clients, features, progress)
    if until == "score":
        await run_score_stage(config, store, clients.scorer, features, progress)


def _describe(config: RunConfig, directory: RunDirectory, store: ResultStore, clients: RunClients) -> None:
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
    for key, value in (facts | clients.models).items():
        store.set_info(key, value)
