"""The lexical baseline: how far a rule about tokens gets on the tests of the run. It asks no language model.

In: the run's features, one by one. Out: an explanation by the `lexical` explainer, made from the explain examples as
any other, and its scores by the `lexical` judge on every scorer of the run that puts examples to a judge one by one.

All is filed under the names that it would have if the run file listed `lexical` among its explainers, and is the same.
So a run file that lists it has this baseline already, and may come to list it later.
"""

from sae_auto_interp.pipeline.clients.open_clients import RunClients
from sae_auto_interp.pipeline.clients.readers import NO_READERS
from sae_auto_interp.pipeline.components import OpenEmbedders
from sae_auto_interp.pipeline.explain_stage import ExplainStage
from sae_auto_interp.pipeline.progress.state import RunProgress
from sae_auto_interp.pipeline.resolved import LEXICAL, Components
from sae_auto_interp.pipeline.score_stage import STAGE as SCORE, ScoreStage
from sae_auto_interp.pipeline.units import Evidence
from sae_auto_interp.results import ResultStore
from sae_auto_interp.types import FeatureId


class LexicalBaseline:
    """The stages of a run whose one explainer is the lexical one, on the features that are to have the baseline."""

    def __init__(
        self, lexical: Components, limit: int | None, store: ResultStore, embedders: OpenEmbedders,
        progress: RunProgress, *, keeps_responses: bool = True,
    ) -> None:  # fmt: skip
        """`limit`: features of each module that have it; None: all.

        Raises `RunDirectoryError` where the run holds lexical explanations or scores made with other settings.
        """
        self._limit = limit
        self._progress = progress
        keeps = keeps_responses
        self._explain = ExplainStage(
            lexical.explainers, store, RunClients(), embedders, progress, keeps_responses=keeps
        )
        self._score = ScoreStage(lexical, store, None, NO_READERS, embedders, progress, keeps_responses=keeps)

    @property
    def n_explained(self) -> int:
        return self._explain.n_done

    @property
    def n_scored(self) -> int:
        return self._score.n_done

    @property
    def n_scores(self) -> int:
        """Scores of each feature."""
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
