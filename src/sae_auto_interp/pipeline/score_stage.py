"""Stage 4: every scorer on every explanation, and what the scores are to be compared with.

A control gives a feature the explanation of another one of its module: any other one (shuffled; which: see `flow`), or
the most similar one (nearest: see `nearest_control`). What an explanation scores above it is what it says about its own
feature, and about more than its kind. The probe asks the same questions with the
explanation hidden, of a few features and for the first explainer of each judge: it is the same for all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

from sae_auto_interp.pipeline.clients.readers import Readers
from sae_auto_interp.pipeline.components import OpenEmbedders
from sae_auto_interp.pipeline.explain_stage import explanation_id
from sae_auto_interp.pipeline.judged_scorers import LANGUAGE_MODEL, JudgedScorer, blind_scorers_of, judged_scorers_of
from sae_auto_interp.pipeline.progress.state import RunProgress
from sae_auto_interp.pipeline.reading_anew import ReadingAnew
from sae_auto_interp.pipeline.resolved import Components
from sae_auto_interp.pipeline.too_long import TooLongStreak
from sae_auto_interp.pipeline.units import Evidence, open_failure, store_open_failure
from sae_auto_interp.pipeline.workers import isolated, together
from sae_auto_interp.prompting.asking import asking_again
from sae_auto_interp.prompting.reader_versions import EXPLAINERS, JUDGES
from sae_auto_interp.protocols import Client, Embedder
from sae_auto_interp.results import ResultStore
from sae_auto_interp.types import Explanation, Failure, FeatureId, Score, Usage
from sae_auto_interp.types.spending import spending_nothing, spending_on

STAGE = "score"
Control: TypeAlias = Literal["shuffled:", "nearest:"]
"""What the explainer of a control's explanation begins with."""
SHUFFLED: Control = "shuffled:"
NEAREST: Control = "nearest:"
CONTROLS = (SHUFFLED, NEAREST)


class ScoreStage:
    """The scorers of a run, and which scores there are already."""

    def __init__(
        self, components: Components, store: ResultStore, client: Client | None, readers: Readers,
        embedders: OpenEmbedders, progress: RunProgress, too_long: TooLongStreak | None = None, *,
        keeps_responses: bool = True,
    ) -> None:  # fmt: skip
        """`keeps_responses`: answers are stored, from which results of an older reader can be made anew.

        Raises `RunDirectoryError` where the run holds scores made with other settings."""
        self._store = store
        self._progress = progress
        self._too_long = too_long
        collaborators = {**readers, Client: client, Embedder: embedders}
        self._measures: Mapping[str, Sequence[JudgedScorer]] = {
            explainer.name: judged_scorers_of(explainer, components.scorers, store, collaborators)
            for explainer in components.explainers
        }
        self._probes = _once({name: blind_scorers_of(measures) for name, measures in self._measures.items()})
        self._finished = store.finished_units(STAGE)
        self.anew = ReadingAnew(STAGE, store, is_possible=keeps_responses)
        self.anew.watch(self._reader_versions(), self._finished)
        self._finished -= self.anew.units
        self._reopened = store.times_reopened(STAGE)

    def measures(self, explainer: str) -> Sequence[JudgedScorer]:
        """What scores its explanations, controls and probes aside."""
        return self._measures[explainer]

    def n_scores(self, explainer: str, *, is_control: bool = False, is_blind: bool = False) -> int:
        """Scores of each of its explanations, with the probes or without, or of each control."""
        return len(self._of(explainer, is_control, is_blind))

    @property
    def n_done(self) -> int:
        """Finished scores of this run's explainers, controls among them."""
        wanted = {
            measure.unit(prefix + explainer)
            for explainer in self._measures
            for measure in self._of(explainer, is_control=False, is_blind=True)
            for prefix in ("", *CONTROLS)
        }
        return sum(unit.rpartition("/")[0] in wanted for unit in self._finished)

    def is_done(
        self, explainer: str, feature: FeatureId, *, control: Control | None = None, is_blind: bool = False
    ) -> bool:
        """Whether nothing is left to do for an explanation (and its probes), or for one of its controls."""
        named = explanation_id((control or "") + explainer, feature)
        measures = self._of(explainer, control is not None, is_blind)
        return all(measure.unit(named) in self._finished for measure in measures)

    def leave_open(self, explainer: str, feature: FeatureId, control: Control, why: Failure) -> None:
        """Note why a control cannot be scored as long as things are as they are."""
        named = explanation_id(control + explainer, feature)
        for measure in self._of(explainer, is_control=True, is_blind=False):
            if measure.unit(named) not in self._finished:
                store_open_failure(self._store, measure.unit(named), why)
                self._progress.advance_stage(STAGE, [why.kind])

    async def score(
        self, explainer: str, explanation: Explanation, evidence: Evidence, *, is_blind: bool = False
    ) -> None:
        """Every score of one explanation that is not there yet, each stored when it is complete."""
        named = explanation_id(explanation.explainer, explanation.feature)
        is_control = explanation.explainer.startswith(CONTROLS)
        waiting = [m for m in self._of(explainer, is_control, is_blind) if m.unit(named) not in self._finished]
        await together(self._score(measure, explanation, named, evidence) for measure in waiting)

    def _of(self, explainer: str, is_control: bool, is_blind: bool) -> Sequence[JudgedScorer]:
        """What scores its explanations, or their controls."""
        own = [m for m in self._measures[explainer] if m.reads_explanation or not is_control]
        return [*own, *self._probes[explainer]] if is_blind else own

    def _reader_versions(self) -> dict[str, str]:
        """Return the reader versions of scorers that ask a language model; a score is also remade with its
        explanation."""
        measures = [m for name in self._measures for m in self._of(name, is_control=False, is_blind=True)]
        asking = [m.unit("").removesuffix("/") for m in measures if LANGUAGE_MODEL in m.judge_name]
        return dict.fromkeys(asking, f"{EXPLAINERS}.{JUDGES}")

    async def _read_anew(self, measure: JudgedScorer, explanation: Explanation, named: str, evidence: Evidence) -> None:
        """What the stored answers come to now, in the place of the score that there is."""
        unit = measure.unit(named)
        with (
            spending_on(STAGE, str(explanation.feature)),
            asking_again(self._reopened.get(unit, 0)),
            spending_nothing(),
        ):
            score = await isolated(STAGE, measure.scorer.score(evidence.record, explanation, named))
        failures = [score] if isinstance(score, Failure) else score.failures
        if self.anew.is_answered(failures) and not isinstance(score, Failure):
            old = self._store.score(explanation.feature, measure.scorer.name, named, measure.judge_name)
            if old != score:
                self._store.replace_score(STAGE, unit, score, measure.judge_name)
                self.anew.changed()
        self._progress.advance_stage(STAGE)

    def _is_of(self, explanation: Explanation, named: str, unit: str) -> bool:
        """Whether a finished score is of this very explanation; what is of another one is forgotten."""
        stored = self._store.explanation(named)
        if stored is not None and stored.text != explanation.text:
            self._store.forget_explanation(named)
        return self._store.is_finished(STAGE, unit)

    async def _score(self, measure: JudgedScorer, explanation: Explanation, named: str, evidence: Evidence) -> None:
        unit = measure.unit(named)
        if self.anew.take(unit) and self._is_of(explanation, named, unit):
            await self._read_anew(measure, explanation, named, evidence)
            return
        with spending_on(STAGE, str(explanation.feature)), asking_again(self._reopened.get(unit, 0)):
            score = await isolated(STAGE, measure.scorer.score(evidence.record, explanation, named))
        failure = score if isinstance(score, Failure) else open_failure(score)
        if isinstance(score, Failure):
            with self._store.unit(STAGE, unit):
                self._store.clear_failures(unit)
                self._store.add_failure(score, unit)
        elif failure is not None:
            store_open_failure(self._store, unit, failure)
        else:
            self._keep(measure, unit, explanation, score)
        kinds = _failure_kinds(score) if failure is None else [failure.kind]
        self._progress.advance_stage(STAGE, kinds)
        if self._too_long is not None and (isinstance(score, Failure) or not any_answer(score)):
            self._too_long.add([score] if isinstance(score, Failure) else score.failures)

    def _keep(self, measure: JudgedScorer, unit: str, explanation: Explanation, score: Score) -> None:
        with self._store.unit(STAGE, unit):
            self._store.clear_failures(unit)
            if explanation.explainer.startswith(CONTROLS):
                self._store.add_explanation(explanation, score.explanation_id)
            self._store.add_score(score, measure.judge_name)


def as_control(explanation: Explanation, feature: FeatureId, control: Control) -> Explanation:
    """Another feature's explanation, as the control of `feature`; it cost nothing."""
    return replace(explanation, feature=feature, explainer=control + explanation.explainer, usage=Usage())


def any_answer(score: Score) -> bool:
    """Whether any trial of a score has a readable answer."""
    return any(trial.failure is None for trial in (*score.trials, *score.choices, *score.simulations))


def _once(probes: Mapping[str, Sequence[JudgedScorer]]) -> Mapping[str, Sequence[JudgedScorer]]:
    """Each probe with the first explainer that has it."""
    seen: set[tuple[str, str]] = set()
    kept: dict[str, Sequence[JudgedScorer]] = {}
    for explainer, measures in probes.items():
        kept[explainer] = [m for m in measures if (m.scorer.name, m.judge_name) not in seen]
        seen |= {(m.scorer.name, m.judge_name) for m in measures}
    return kept


def _failure_kinds(score: Score | Failure) -> list[str]:
    """The kinds of failure among the trials of a score."""
    return [] if isinstance(score, Failure) else sorted({failure.kind for failure in score.failures})
