"""The lexical baseline: how far a rule about tokens gets on the tests of the run. It asks no language model.

In: the run's features, one by one. Out: an explanation by the `lexical` explainer, made from the explain examples as
any other, and its scores by the `lexical` judge on every scorer of the run that puts examples to a judge one by one.

All is filed under the names that it would have if the run file listed `lexical` among its explainers, and is the same.
So a run file that lists it has this baseline already, and may come to list it later.
"""

from sae_auto_interp.config import ComponentConfig, ExplainerConfig, RunConfig
from sae_auto_interp.pipeline.clients.open_clients import RunClients
from sae_auto_interp.pipeline.clients.readers import NO_READERS
from sae_auto_interp.pipeline.components import collaborators_of, explainer_name
from sae_auto_interp.pipeline.evidence import Evidence
from sae_auto_interp.pipeline.explain_stage import ExplainStage
from sae_auto_interp.pipeline.open_embedders import OpenEmbedders
from sae_auto_interp.pipeline.run_progress import RunProgress
from sae_auto_interp.pipeline.score_stage import STAGE as SCORE
from sae_auto_interp.pipeline.score_stage import ScoreStage
from sae_auto_interp.protocols import Judge
from sae_auto_interp.registry import load_component
from sae_auto_interp.results import ResultStore
from sae_auto_interp.types import FeatureId

LEXICAL = "lexical"


class LexicalBaseline:
    """The stages of a run whose one explainer is the lexical one, on the features that are to have the baseline."""

    def __init__(self, config: RunConfig, store: ResultStore, embedders: OpenEmbedders, progress: RunProgress) -> None:
        """Raises `RunDirectoryError` where the run holds lexical explanations or scores made with other settings."""
        alone = lexical_only(config)
        self._limit = config.n_lexical
        self._progress = progress
        self._explain = ExplainStage(alone, store, RunClients(), embedders, progress)
        self._score = ScoreStage(alone, store, None, NO_READERS, embedders, progress)

    @property
    def n_explained(self) -> int:
        return self._explain.n_done

    @property
    def n_scored(self) -> int:
        return self._score.n_done

    @property
    def n_scores(self) -> int:
        """Of each feature."""
        return self._score.n_scores(LEXICAL)

    def n_features(self, n: int) -> int:
        """Features of a module's first `n` that have it."""
        return n if self._limit is None else min(n, self._limit)

    def is_done(self, feature: FeatureId) -> bool:
        return self._explain.is_done(LEXICAL, feature) and self._score.is_done(LEXICAL, feature)

    async def work_on(self, evidence: Evidence) -> None:
        """Explain and score one feature, as far as that is not done."""
        explanation = await self._explain.explain(LEXICAL, evidence)
        if explanation is None:
            self._progress.drop(SCORE, self.n_scores)
        else:
            await self._score.score(LEXICAL, explanation, evidence)


def has_lexical_baseline(config: RunConfig) -> bool:
    """Whether the run is to have it, beside what its file lists."""
    is_listed = any(explainer_name(explainer) == LEXICAL for explainer in config.explainers)
    return not is_listed and config.n_lexical != 0 and bool(_asking_of_each(config))


def lexical_only(config: RunConfig) -> RunConfig:
    """The run with this explainer alone, and the scorers that its rule can answer, without judges of their own."""
    changed = {"explainers": (ExplainerConfig(name=LEXICAL),), "scorers": _asking_of_each(config)}
    return config.model_copy(update=changed)


def _asking_of_each(config: RunConfig) -> tuple[ComponentConfig, ...]:
    """Scorers that ask nobody but a judge, about each example alone; each name once, for the first that has it."""
    found: dict[str, ComponentConfig] = {}
    for scorer in config.scorers:
        component = load_component("scorers", scorer.name)
        settings = {name: value for name, value in scorer.settings.items() if name != "judge"}
        bare = ComponentConfig.model_validate({"name": scorer.name} | settings)
        if set(collaborators_of("scorers", bare)) == {Judge} and not hasattr(component, "n_choices"):
            found.setdefault(str(component.name), bare)
    return tuple(found.values())
