"""Embedding: do windows in which the feature fires lie nearer to the explanation than silent ones? Chance AUROC is 0.5.

Each window's cosine with the explanation (arXiv 2410.13928, section 3.3.4); no language model is asked. Cheap enough to
look at everything first, and blind to syntax, positions and single tokens. The cosines rank the windows and are no
verdicts: AUROC and average precision are computed from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sae_auto_interp.protocols import Embedder
from sae_auto_interp.scorers._embedding import embedded, ranking_trials
from sae_auto_interp.types import Explanation, Failure, FeatureRecord, Score


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingScorer:
    """Every test example once, by its cosine with the explanation."""

    name: ClassVar[str] = "embedding"

    embedder: Embedder
    query_prefix: str = ""
    """Put before the explanation, for models that want an instruction there (docs/methods/embedding.md)."""

    async def score(self, record: FeatureRecord, explanation: Explanation, explanation_id: str) -> Score:
        examples = (*record.test, *record.non_activating.test)
        fits = await self._fits(explanation.text, [example.text for example in examples])
        trials = ranking_trials(examples, fits)
        return Score(record.feature, self.name, explanation_id, "ranking", trials)

    async def _fits(self, explanation: str, texts: Sequence[str]) -> Sequence[float] | Failure:
        windows = await embedded(self.embedder, texts)
        query = await embedded(self.embedder, [self.query_prefix + explanation])
        if isinstance(windows, Failure):
            return windows
        if isinstance(query, Failure):
            return query
        return [float(value) for value in windows @ query[0]]
