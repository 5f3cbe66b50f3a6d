"""The driver: the stages in order, on one run directory, under one writer.

Caching comes first and by itself. Records, explanations and scores then flow through together (`stages`, `flow`).
"""

import platform
from pathlib import Path

from sae_auto_interp import __version__
from sae_auto_interp.config import RunConfig
from sae_auto_interp.errors import RunStoppedError
from sae_auto_interp.pipeline.cache_stage import run_cache_stage
from sae_auto_interp.pipeline.clients.open_clients import RunClients, open_clients
from sae_auto_interp.pipeline.clients.readers import model_readers
from sae_auto_interp.pipeline.controls.nearest_control import NearestFeatures
from sae_auto_interp.pipeline.explain_stage import STAGE as EXPLAIN
from sae_auto_interp.pipeline.interrupts import immediate_interrupts
from sae_auto_interp.pipeline.judged_scorers import score_unit
from sae_auto_interp.pipeline.preflight_stage import stored_summary
from sae_auto_interp.pipeline.progress.displays import StageProgress
from sae_auto_interp.pipeline.progress.ending import Ending, log_failures, stored_failures
from sae_auto_interp.pipeline.progress.status import kept_status
from sae_auto_interp.pipeline.record_stage import open_loader, open_record_maker
from sae_auto_interp.pipeline.resolved import ResolvedRun, Stage, resolve
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.score_stage import STAGE as SCORE
from sae_auto_interp.pipeline.stages import explain_and_score
from sae_auto_interp.pipeline.stored_names import names_of_run
from sae_auto_interp.results import ResultStore
from sae_auto_interp.types import Score


def reopen_failed(store: ResultStore) -> int:
    """Forget failed explanations and scores, and scores with a failed trial; return how many units are open again.

    For when the reason is gone (a key that was refused, a server that could not do what was asked), or for another try
    with answers that could not be read: they alone are asked for anew (`asking`). Features without enough examples stay
    as they are, because the cache has not changed.
    """
    failed = [(failure.stage, unit) for unit, failure in store.failures() if failure.stage in (EXPLAIN, SCORE)]
    for stage, unit in failed:
        store.reopen(stage, unit)
    spoilt = [(judge, score) for judge, score in store.scores() if _has_failed_trial(score)]
    for judge, score in spoilt:
        store.reopen_score(SCORE, score_unit(score.scorer, judge, score.explanation_id), score, judge)
    return len(set(failed)) + len(spoilt)


def _has_failed_trial(score: Score) -> bool:
    return bool(score.failures)


async def run_pipeline(
    config: RunConfig, root: Path, progress: StageProgress, until: Stage = "score", *, retry_failed: bool = False
) -> Ending:
    """Do what is not done yet, up to and including `until`; with `retry_failed` what failed for good counts as that.

    Returns what failed, and what came to nothing at all: that is no error here, for all that was made is kept.
    Killed or interrupted at any point, the same call goes on where it stopped and ends with the same results. Raises
    our errors for a wrong configuration, a run directory of another one, or an endpoint that cannot be reached,
    all before any work is done; `RunInterruptedError` after ctrl-C or SIGTERM.
    """
    run = resolve(config)
    directory = RunDirectory(root)
    directory.claim(run.evidence)
    with ResultStore.open(directory.results) as store:
        async with (
            open_clients(run.endpoints, store, progress.note, until, directory.clients) as clients,
            model_readers(
                run.inputs, run.components.scorers, directory, clients.reader, is_scoring=until == "score"
            ) as readers,
        ):
            directory.save_config(config)
            _describe(run, directory, store, clients)
            if retry_failed:
                progress.note(f"{reopen_failed(store):,} failed units are tried again")
            with immediate_interrupts():
                _cache(run, directory, store, progress, is_for_records=until != "cache")
                loader = None if until == "cache" else open_loader(run.records, directory)
            if loader is not None:
                is_compared = until == "score" and run.controls.n_nearest != 0
                nearest = NearestFeatures(loader.dataset, directory) if is_compared else None
                async with (
                    kept_status(directory.progress, progress),
                    open_record_maker(run.records, run.inputs.subject, loader, directory, store) as maker,
                ):
                    widths = {module: reader.manifest.width for module, reader in loader.dataset.readers.items()}
                    names = names_of_run(run.inputs.subject.model, widths, directory.pinned)
                    try:
                        nothing = await explain_and_score(
                            run, loader, store, clients, progress, until, readers, maker, nearest, names
                        )
                    except RunStoppedError:
                        log_failures(stored_failures(store))
                        raise
                failures = stored_failures(store)
                log_failures(failures)
                return Ending(failures, nothing)
    return Ending()


def _cache(
    run: ResolvedRun, directory: RunDirectory, store: ResultStore, progress: StageProgress, *, is_for_records: bool
) -> None:
    explainers = [each.explainer for each in run.components.explainers]
    run_cache_stage(
        run.inputs, directory, progress, records=run.records, explainers=explainers, is_for_records=is_for_records
    )
    checked = stored_summary(directory)
    if checked is not None:
        store.set_info("autoencoder_check", checked)


def _describe(run: ResolvedRun, directory: RunDirectory, store: ResultStore, clients: RunClients) -> None:
    """Facts about the run for its report."""
    facts = {
        "model": run.inputs.subject.model,
        "autoencoders": ", ".join(autoencoder.label for autoencoder in run.inputs.subject.autoencoders),
        "data": run.inputs.text.data.source,
        "explainers": ", ".join(explainer.name for explainer in run.components.explainers),
        "seed": str(run.seed),
        "version": __version__,
        "python": platform.python_version(),
        "fingerprint": directory.fingerprint(),
    }
    for key, value in (facts | clients.facts).items():
        store.set_info(key, value)
