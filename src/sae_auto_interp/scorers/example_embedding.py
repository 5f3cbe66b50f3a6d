"""Example embedding: do a feature's test windows resemble its other windows? Chance AUROC is 0.5.

No explanation is read. A window lies at

    mean cosine with n activating examples - mean cosine with n silent ones

of those that an explainer may see, so that no document is on both sides (arXiv 2507.08473, which draws both from one
pool). A pair of windows, one activating and one silent, is compared with the same examples; the activating ones are of
the quantiles nearest to that of the pair's. Marks are shown, and silent windows copy the marks of activating ones.

What this shows is how much the feature is about anything that an embedding model sees at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Int64

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.prompting.highlights import choose_delimiters, marked_text
from sae_auto_interp.protocols import Embedder
from sae_auto_interp.scorers._embedding import embedded, ranking_trials
from sae_auto_interp.scorers._marks import check_threshold, fitted, spread, strong_tokens
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Array, Example, Explanation, Failure, FeatureRecord, Score


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleEmbeddingScorer:
    """Every activating test example once, each with a silent one."""

    name: ClassVar[str] = "example_embedding"
    reads_explanation: ClassVar[bool] = False

    embedder: Embedder
    n_examples: int = 10
    """Activating examples that a window is compared with, and as many silent ones."""
    threshold: float = 0.3
    """Fraction of a window's maximum from which a token is marked."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_threshold(self.name, self.threshold)
        if self.n_examples < 1:
            raise ConfigError(f"scorers.{self.name}.n_examples={self.n_examples}; give at least 1")

    async def score(self, record: FeatureRecord, explanation: Explanation, explanation_id: str) -> Score:
        rng = derived_rng(self.seed, "example_embedding", record.feature)
        examples = _in_pairs(record, rng)
        fits = self._too_few(record) or await self._fits(examples, record, rng)
        return Score(record.feature, self.name, explanation_id, "ranking", ranking_trials(examples, fits))

    def _too_few(self, record: FeatureRecord) -> Failure | None:
        n = min(len(record.train), len(record.non_activating.explain))
        if n >= self.n_examples:
            return None
        reason = f"the record has {n} examples of each kind for comparison and {self.n_examples} are wanted"
        return Failure("score", "too_few_examples", f"{reason}; raise features.n_train and n_non_activating_train")

    async def _fits(
        self, examples: Sequence[Example], record: FeatureRecord, rng: np.random.Generator
    ) -> Sequence[float] | Failure:
        """How each of the test examples fits; two in a row are compared with the same ones."""
        firing, silent = record.train, record.non_activating.explain
        vectors = await embedded(self.embedder, _texts((*examples, *firing, *silent), self.threshold, rng))
        if isinstance(vectors, Failure):
            return vectors
        tested, of_firing, of_silent = np.split(vectors, np.cumsum([len(examples), len(firing)]))
        fits: list[float] = []
        for first in range(0, len(examples), 2):
            near = _nearest_quantiles(firing, examples[first].quantile, self.n_examples, rng)
            chosen = rng.choice(len(silent), self.n_examples, replace=False)
            direction = of_firing[near].mean(axis=0) - of_silent[chosen].mean(axis=0)
            fits += [float(fit) for fit in tested[first : first + 2] @ direction]
        return fits


def _in_pairs(record: FeatureRecord, rng: np.random.Generator) -> list[Example]:
    """Activating and silent test examples in turn; each silent one equally often, up to one."""
    silent = record.non_activating.test
    if not silent:
        return list(record.test)
    partners = [silent[i] for i in spread(len(silent), len(record.test), rng)]
    return [example for pair in zip(record.test, partners, strict=True) for example in pair]


def _texts(examples: Sequence[Example], threshold: float, rng: np.random.Generator) -> list[str]:
    """With marks: activating examples their own, silent ones those of an activating one."""
    masks = [strong_tokens(example, threshold) for example in examples if example.source == "activating"]
    lenders = iter(spread(len(masks), len(examples) - len(masks), rng))
    delimiters = choose_delimiters(example.text for example in examples)
    texts: list[str] = []
    for example in examples:
        mask = strong_tokens(example, threshold) if example.source == "activating" else masks[next(lenders)]
        shown = fitted(mask, len(example.str_tokens)) if example.str_tokens else ()
        texts.append(marked_text(example.str_tokens, shown, delimiters))
    return texts


def _nearest_quantiles(
    examples: Sequence[Example], quantile: int | None, n: int, rng: np.random.Generator
) -> Int64[Array, " n"]:
    """`n` examples of the quantiles nearest to a given one, drawn at random where several are as near."""
    distances = [abs((example.quantile or 0) - (quantile or 0)) for example in examples]
    return np.lexsort(np.array([rng.random(len(examples)), distances]))[:n]
