"""The driver: the stages in order, on one run directory, under one writer.

Caching comes first and by itself. Records, explanations and scores then flow through together (`flow`).
"""

import platform
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sae_auto_interp import __version__
from sae_auto_interp.config import RunConfig
from sae_auto_interp.errors import RunDirectoryError
from sae_auto_interp.features import FeatureLoader
from sae_auto_interp.pipeline.cache_stage import run_cache_stage
from sae_auto_interp.pipeline.clients.open_clients import RunClients, open_clients
from sae_auto_interp.pipeline.clients.readers import NO_READERS, Readers, model_readers
from sae_auto_interp.pipeline.clients.request_counts import MeteredClient, Traffic
from sae_auto_interp.pipeline.components import build_component, check_components, explainer_name
from sae_auto_interp.pipeline.controls.lexical_baseline import LexicalBaseline, has_lexical_baseline
from sae_auto_interp.pipeline.controls.nearest_control import NearestControl
from sae_auto_interp.pipeline.explain_stage import STAGE as EXPLAIN
from sae_auto_interp.pipeline.explain_stage import ExplainStage
from sae_auto_interp.pipeline.feature_window import FeatureWindow
from sae_auto_interp.pipeline.flow import FeatureFlow
from sae_auto_interp.pipeline.frozen_heap import frozen_heap
from sae_auto_interp.pipeline.interrupts import draining_interrupts, immediate_interrupts
from sae_auto_interp.pipeline.nearest_features import NearestFeatures
from sae_auto_interp.pipeline.open_embedders import OpenEmbedders
from sae_auto_interp.pipeline.preflight_stage import stored_summary
from sae_auto_interp.pipeline.progress.displays import StageProgress
from sae_auto_interp.pipeline.progress.status import kept_status
from sae_auto_interp.pipeline.record_maker import RecordMaker
from sae_auto_interp.pipeline.record_stage import STAGE as RECORDS
from sae_auto_interp.pipeline.record_stage import RecordStage, feature_config, open_loader
from sae_auto_interp.pipeline.retry_failed import reopen_failed
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.score_stage import STAGE as SCORE
from sae_auto_interp.pipeline.score_stage import ScoreStage
from sae_auto_interp.pipeline.subject.logits import SubjectLogits
from sae_auto_interp.pipeline.units import claim_component
from sae_auto_interp.pipeline.workers import ahead
from sae_auto_interp.protocols import PromptReader
from sae_auto_interp.results import ResultStore

Stage = Literal["cache", "explain", "score"]
RECORDS_AHEAD = 4
"""Records that may be ready before there is room for their feature."""


async def run_pipeline(
    config: RunConfig, root: Path, progress: StageProgress, until: Stage = "score", *, retry_failed: bool = False
) -> None:
    """Do what is not done yet, up to and including `until`; with `retry_failed` what failed for good counts as that.

    Killed or interrupted at any point, the same call goes on where it stopped and ends with the same results. Raises
    our errors for a wrong configuration, a run directory of another one, or an endpoint that cannot be reached,
    all before any work is done; `RunInterruptedError` after ctrl-C or SIGTERM.
    """
    feature_config(config)
    check_components(config)
    directory = RunDirectory(root)
    directory.claim(config)
    with ResultStore.open(directory.results) as store:
        async with (
            open_clients(config, store, progress.note, until, directory.clients) as clients,
            model_readers(config, directory, clients.reader, is_scoring=until == "score") as readers,
        ):
            directory.save_config(config)
            _describe(config, directory, store, clients)
            if retry_failed:
                progress.note(f"{reopen_failed(store):,} failed units are tried again")
            with immediate_interrupts():
                _cache(config, directory, store, progress)
                loader = None if until == "cache" else open_loader(config, directory)
            if loader is not None:
                is_compared = until == "score" and config.n_nearest != 0
                nearest = NearestFeatures(loader.dataset, directory) if is_compared else None
                async with (
                    kept_status(directory.progress, progress),
                    _record_maker(config, loader, directory, store) as maker,
                ):
                    await explain_and_score(config, loader, store, clients, progress, until, readers, maker, nearest)


async def explain_and_score(
    config: RunConfig,
    loader: FeatureLoader,
    store: ResultStore,
    clients: RunClients,
    progress: StageProgress,
    until: Stage = "score",
    readers: Readers = NO_READERS,
    maker: RecordMaker | None = None,
    nearest: NearestFeatures | None = None,
) -> None:
    """Records, explanations and, `until` "score", scores: all three at once, feature after feature.

    `maker` makes the records; None makes those that need nothing but the cache. `nearest` knows whose explanation the
    `n_nearest` controls take; None: there are none.
    Raises `RunDirectoryError` when no feature has enough examples, `RunInterruptedError` after ctrl-C or SIGTERM.
    """
    with draining_interrupts(progress.note) as stop, frozen_heap():
        records = RecordStage(config, loader, store, progress, maker)
        embedders = OpenEmbedders()
        try:
            run = _Run.of(config, records, store, clients, readers, embedders, progress, until, nearest)
            flow = FeatureFlow(
                run.explain, run.score, run.window, run.traffic, progress, stop, config.n_shuffled,
                config.n_hidden, run.lexical, run.nearest,
            )  # fmt: skip
            _start(run, flow, progress)
            async with aclosing(ahead(run.records.features(), RECORDS_AHEAD)) as features:
                await flow.run(features)
        finally:
            await embedders.close()
        stop.raise_if_requested()
    if not flow.n_features:
        raise RunDirectoryError(
            "no feature has enough examples; cache more text (data.n_tokens) or lower features.min_examples"
        )
    for stage in (RECORDS, EXPLAIN, *([SCORE] if run.score else [])):
        progress.finish_stage(stage)


@dataclass(frozen=True, slots=True)
class _Run:
    """The stages of one run, made from its configuration."""

    records: RecordStage
    explain: ExplainStage
    score: ScoreStage | None
    lexical: LexicalBaseline | None
    nearest: NearestControl | None
    window: FeatureWindow
    traffic: Traffic

    @classmethod
    def of(
        cls, config: RunConfig, records: RecordStage, store: ResultStore, clients: RunClients, readers: Readers,
        embedders: OpenEmbedders, progress: StageProgress, until: Stage, nearest: NearestFeatures | None,
    ) -> "_Run":  # fmt: skip
        traffic = Traffic(spent=clients.spent)
        metered = clients.metered(traffic)
        if PromptReader in readers:
            readers = {**readers, PromptReader: MeteredClient(readers[PromptReader], traffic=traffic)}
        if metered.n_at_once(config):
            progress.watch(traffic)
        is_scoring = until == "score"
        explain = ExplainStage(config, store, metered, embedders, progress)
        score = ScoreStage(config, store, metered.scorer, readers, embedders, progress) if is_scoring else None
        return cls(
            records,
            explain,
            score,
            LexicalBaseline(config, store, embedders, progress)
            if is_scoring and has_lexical_baseline(config)
            else None,
            None
            if score is None or nearest is None
            else NearestControl(nearest, explain, score, progress, config.n_nearest),
            FeatureWindow(max(1, metered.n_at_once(config)), traffic),
            traffic,
        )


@asynccontextmanager
async def _record_maker(
    config: RunConfig, loader: FeatureLoader, directory: RunDirectory, store: ResultStore
) -> AsyncGenerator[RecordMaker, None]:
    """What makes the run's records, with the embedding model that they need."""
    embedders = OpenEmbedders()
    chosen = config.features.embedder
    if chosen is not None:
        claim_component(store, f"embedder of records {chosen.name}", chosen.settings)
    try:
        embedder = None if chosen is None else embedders.opened(chosen, build_component)
        n_logits = config.features.n_logits
        yield RecordMaker(
            loader, directory, workers=config.features.workers, embedder=embedder,
            triage=config.features.triage, skip=config.features.skip,
            logits=SubjectLogits(config, directory, loader.vocabulary, n_logits) if n_logits else None,
        )  # fmt: skip
    finally:
        await embedders.close()


def _start(run: _Run, flow: FeatureFlow, progress: StageProgress) -> None:
    """Say how much there is to do: all of it, as long as nothing fails."""
    expected = run.records.n_expected.values()
    progress.start(RECORDS, sum(expected), run.records.n_done, "features")
    lexical = run.lexical
    n_lexical = 0 if lexical is None else sum(map(lexical.n_features, expected))
    n_done = run.explain.n_done + (0 if lexical is None else lexical.n_explained)
    progress.start(EXPLAIN, sum(expected) * len(run.explain.names) + n_lexical, n_done, "explanations")
    if run.score is not None:
        n_scores = sum(_n_scores(run.score, name, flow, expected) for name in run.explain.names)
        n_scores += 0 if lexical is None else n_lexical * lexical.n_scores
        n_done = run.score.n_done + (0 if lexical is None else lexical.n_scored)
        progress.start(SCORE, n_scores, n_done, "scores")


def _n_scores(score: ScoreStage, explainer: str, flow: FeatureFlow, expected: Collection[int]) -> int:
    """Of one explainer, controls and probes included; `expected`: features of each module."""
    n_own, n_control = score.n_scores(explainer), score.n_scores(explainer, is_control=True)
    n_probes = score.n_scores(explainer, is_probed=True) - n_own
    return sum(n * n_own + flow.n_controls(n) * n_control + flow.n_probed(n) * n_probes for n in expected)


def _cache(config: RunConfig, directory: RunDirectory, store: ResultStore, progress: StageProgress) -> None:
    run_cache_stage(config, directory, progress)
    checked = stored_summary(directory)
    if checked is not None:
        store.set_info("autoencoder_check", checked)


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
    for key, value in (facts | clients.facts).items():
        store.set_info(key, value)
