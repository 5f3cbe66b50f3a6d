"""What scores an explanation in a run: each scorer with the judge or model that it asks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.judges import HiddenJudge
from sae_auto_interp.pipeline.components import ResolvedComponent
from sae_auto_interp.pipeline.resolved import ResolvedExplainer
from sae_auto_interp.pipeline.units import claim_component
from sae_auto_interp.prompting.prompts import prompts_digest
from sae_auto_interp.protocols import Judge, Scorer
from sae_auto_interp.results import ResultStore

LANGUAGE_MODEL = "llm:"
"""What the names of judges that ask a language model begin with."""


@dataclass(frozen=True, slots=True)
class JudgedScorer:
    """A scorer and the name of whom it asks, which its results are filed under."""

    scorer: Scorer
    judge_name: str

    @property
    def reads_explanation(self) -> bool:
        """False where the result is the same for every explanation: then there is nothing to shuffle."""
        parts = (self.scorer, getattr(self.scorer, "judge", None))
        return all(getattr(part, "reads_explanation", True) for part in parts)

    def unit(self, explanation_id: str) -> str:
        return score_unit(self.scorer.name, self.judge_name, explanation_id)


def score_unit(scorer: str, judge: str, explanation_id: str) -> str:
    """The unit of work of the stage."""
    return f"{scorer}/{judge}/{explanation_id}"


def judged_scorers_of(
    explainer: ResolvedExplainer,
    scorers: Sequence[ResolvedComponent],
    store: ResultStore,
    collaborators: Mapping[type, Any],
) -> Sequence[JudgedScorer]:
    """The run's scorers for one explainer. A scorer without a judge of its own asks the explainer's.

    Raises `ConfigError` for two that would be filed under one name, `RunDirectoryError` where the run holds results of
    one with other settings.
    """
    judge: Judge = explainer.judge.build(collaborators)
    measures: list[JudgedScorer] = []
    for scorer in scorers:
        built: Scorer = scorer.build({**collaborators, Judge: judge})
        measure = JudgedScorer(built, _asked(built, judge))
        measures.append(measure)
        _refuse_twice(measures)
        identity: list[object] = [scorer.given, _prompts(scorer), *_own_prompts(built)]
        if measure.judge_name == judge.name and explainer.judge.given:
            identity.append(explainer.judge.given)
        claim_component(store, f"scorer {scorer.name} with judge {measure.judge_name}", identity)
    return measures


def blind_scorers_of(measures: Sequence[JudgedScorer]) -> Sequence[JudgedScorer]:
    """The same questions with the explanation hidden, of scorers that ask a language model for verdicts.

    A scorer that the run file itself gives a hidden judge needs none. What is right here did not come from the
    explanation (`judges.hidden`).
    """
    present = {(measure.scorer.name, measure.judge_name) for measure in measures}
    probes: list[JudgedScorer] = []
    for measure in measures:
        judge = getattr(measure.scorer, "judge", None)
        is_choice = hasattr(measure.scorer, "n_choices")  # there a hidden judge would be asked something else
        if judge is None or is_choice or not measure.judge_name.startswith(LANGUAGE_MODEL):
            continue
        hidden = HiddenJudge(of=judge)
        if (measure.scorer.name, hidden.name) not in present:
            scorer: Any = measure.scorer
            probes.append(JudgedScorer(replace(scorer, judge=hidden), hidden.name))
    return probes


def _asked(scorer: Scorer, judge: Judge) -> str:
    """The name of the judge or the embedding model that a scorer has; of the explainer's judge, if it has neither.

    A scorer that asks a model without a judge says itself whose word its results are (`judged_by`).
    """
    said: str | None = getattr(scorer, "judged_by", None)
    if said is not None:
        return said
    asked = getattr(scorer, "judge", None) or getattr(scorer, "embedder", None) or judge
    return str(asked.name)


def _prompts(scorer: ResolvedComponent) -> str | None:
    """Hash of the prompts of the task that a scorer puts to its judge."""
    task = getattr(scorer.component, "task", scorer.name)
    return prompts_digest("judges", str(task))


def _own_prompts(scorer: Scorer) -> list[str]:
    """Hashes of the prompts that lie beside the scorer itself."""
    names: tuple[str, ...] = getattr(scorer, "prompt_names", (scorer.name,))
    return [digest for name in names if (digest := prompts_digest("scorers", name)) is not None]


def _refuse_twice(measures: Sequence[JudgedScorer]) -> None:
    counts = Counter((measure.scorer.name, measure.judge_name) for measure in measures)
    for (scorer, judge), n in counts.items():
        if n > 1:
            raise ConfigError(f"scorers: {scorer} stands there twice with {judge}; results are filed by these names")
