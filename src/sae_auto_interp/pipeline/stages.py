"""The stages of a run, made from its parts, and all of them at once on its features."""

import gc
from collections.abc import Callable, Collection, Generator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

from sae_auto_interp.errors import RunDirectoryError
from sae_auto_interp.features import FeatureLoader
from sae_auto_interp.pipeline.clients.open_clients import RunClients
from sae_auto_interp.pipeline.clients.readers import NO_READERS, Readers
from sae_auto_interp.pipeline.clients.request_counts import FeatureWindow, MeteredClient, RequestCounts
from sae_auto_interp.pipeline.components import OpenEmbedders
from sae_auto_interp.pipeline.controls.lexical_baseline import LexicalBaseline
from sae_auto_interp.pipeline.controls.nearest_control import NearestControl, NearestFeatures
from sae_auto_interp.pipeline.explain_stage import STAGE as EXPLAIN, ExplainStage
from sae_auto_interp.pipeline.flow import FeatureFlow
from sae_auto_interp.pipeline.interrupts import draining_interrupts
from sae_auto_interp.pipeline.progress.displays import StageProgress
from sae_auto_interp.pipeline.progress.ending import no_features, without_result
from sae_auto_interp.pipeline.record_stage import STAGE as RECORDS, RecordMaker, RecordStage
from sae_auto_interp.pipeline.resolved import ResolvedRun, Stage
from sae_auto_interp.pipeline.score_stage import STAGE as SCORE, ScoreStage
from sae_auto_interp.pipeline.stored_names import StoredNames, named_explainer
from sae_auto_interp.pipeline.too_long import TooLongStreak
from sae_auto_interp.pipeline.workers import ahead
from sae_auto_interp.protocols import PromptReader
from sae_auto_interp.results import ResultStore


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of one run."""

    records: RecordStage
    explain: ExplainStage
    score: ScoreStage | None
    lexical: LexicalBaseline | None
    nearest: NearestControl | None
    window: FeatureWindow
    request_counts: RequestCounts

    def say(self, progress: StageProgress, line: Callable[[ExplainStage | ScoreStage], str | None]) -> None:
        """Note a line about each stage that has one."""
        for stage in (self.explain, *([self.score] if self.score else [])):
            said = line(stage)
            if said is not None:
                progress.note(said)

    @classmethod
    def of(
        cls, run: ResolvedRun, records: RecordStage, store: ResultStore, clients: RunClients, readers: Readers,
        embedders: OpenEmbedders, progress: StageProgress, *, is_scoring: bool, nearest: NearestFeatures | None,
    ) -> "Stages":  # fmt: skip
        request_counts = RequestCounts(spent=clients.spent)
        metered = clients.metered(request_counts)
        if PromptReader in readers:
            readers = {**readers, PromptReader: MeteredClient(readers[PromptReader], request_counts=request_counts)}
        n_at_once, keeps = metered.n_at_once(run.endpoints), run.endpoints.keeps_responses
        if n_at_once:
            progress.watch(request_counts)
        asked = (run.endpoints.explaining.settings, run.endpoints.judging.settings)
        limits = [settings.max_same_refusals for settings in asked if settings is not None]
        too_long = TooLongStreak(request_counts, max(limits)) if limits else None
        explain = ExplainStage(
            run.components.explainers, store, metered, embedders, progress, too_long, keeps_responses=keeps
        )
        score = None
        if is_scoring:
            score = ScoreStage(
                run.components, store, metered.scorer, readers, embedders, progress, too_long, keeps_responses=keeps
            )
        lexical = None
        if is_scoring and run.lexical is not None:
            n_lexical = run.controls.n_lexical
            lexical = LexicalBaseline(run.lexical, n_lexical, store, embedders, progress, keeps_responses=keeps)
        return cls(
            records,
            explain,
            score,
            lexical,
            None
            if score is None or nearest is None
            else NearestControl(nearest, explain, score, progress, run.controls.n_nearest),
            FeatureWindow(max(1, n_at_once), request_counts),
            request_counts,
        )

    def start(self, flow: FeatureFlow, progress: StageProgress) -> None:
        """Say how much there is to do: all of it, as long as nothing fails."""
        expected = self.records.n_expected.values()
        progress.start(RECORDS, sum(expected), self.records.n_done, "features")
        lexical = self.lexical
        n_lexical = 0 if lexical is None else sum(map(lexical.n_features, expected))
        n_done = self.explain.n_done + (0 if lexical is None else lexical.n_explained)
        progress.start(EXPLAIN, sum(expected) * len(self.explain.names) + n_lexical, n_done, "explanations")
        if self.score is not None:
            n_scores = sum(_n_scores(self.score, name, flow, expected) for name in self.explain.names)
            n_scores += 0 if lexical is None else n_lexical * lexical.n_scores
            n_done = self.score.n_done + (0 if lexical is None else lexical.n_scored)
            progress.start(SCORE, n_scores, n_done, "scores")


def _n_scores(score: ScoreStage, explainer: str, flow: FeatureFlow, expected: Collection[int]) -> int:
    """Return the scores of one explainer, with controls and blind baseline; `expected`: features of each module."""
    n_own, n_control = score.n_scores(explainer), score.n_scores(explainer, is_control=True)
    n_probes = score.n_scores(explainer, is_blind=True) - n_own
    return sum(n * n_own + flow.n_controls(n) * n_control + flow.n_blind(n) * n_probes for n in expected)


RECORDS_AHEAD = 4
"""Records that may be ready before there is room for their feature."""


async def explain_and_score(
    run: ResolvedRun,
    loader: FeatureLoader,
    store: ResultStore,
    clients: RunClients,
    progress: StageProgress,
    until: Stage = "score",
    readers: Readers = NO_READERS,
    maker: RecordMaker | None = None,
    nearest: NearestFeatures | None = None,
    names: StoredNames | None = None,
) -> tuple[str, ...]:
    """Records, explanations and, `until` "score", scores: all three at once, feature after feature.

    `maker` makes the records; None makes those that need nothing but the cache. `nearest` knows whose explanation the
    `n_nearest` controls take; None: there are none. `names` are the run's, for explanations that others made; None
    takes their names as they stand. Returns a line for each explainer and judge that got nothing.
    Raises `RunDirectoryError` when no feature has enough examples, `RunInterruptedError` after ctrl-C or SIGTERM.
    """
    with draining_interrupts(progress.note, clients.end_waits) as stop, frozen_heap():
        records = RecordStage(run.records, loader, store, progress, maker)
        embedders = OpenEmbedders()
        try:
            stages = Stages.of(
                run, records, store, clients, readers, embedders, progress, is_scoring=until == "score", nearest=nearest
            )
            if names is not None:
                wanted = records.expected()
                stages.explain.adapt(lambda explainer: named_explainer(explainer, names, wanted, progress.note))
            flow = FeatureFlow(
                stages.explain, stages.score, stages.window, stages.request_counts, progress, stop,
                run.controls.n_shuffled, run.controls.n_hidden, stages.lexical, stages.nearest,
            )  # fmt: skip
            stages.start(flow, progress)
            stages.say(progress, lambda stage: stage.anew.announcement())
            async with aclosing(ahead(stages.records.features(), RECORDS_AHEAD)) as features:
                await flow.run(features)
        finally:
            await embedders.close()
        stop.raise_if_requested()
    stages.say(progress, lambda stage: stage.anew.finish())
    if not flow.n_features:
        raise RunDirectoryError(no_features(store))
    for stage in (RECORDS, EXPLAIN, *([SCORE] if stages.score else [])):
        progress.finish_stage(stage)
    return without_result(stages.explain, stages.score, store)


@contextmanager
def frozen_heap() -> Generator[None, None, None]:
    """Keep Python's garbage collector away from what exists on entering. Inside another one it does nothing.

    A full collection looks at the million objects that torch and transformers make on import: about 0.14 s, every few
    seconds, in which no request leaves. What the run itself makes is collected as ever.
    """
    is_outermost = gc.get_freeze_count() == 0
    if is_outermost:
        gc.freeze()
    try:
        yield
    finally:
        if is_outermost:
            gc.unfreeze()
