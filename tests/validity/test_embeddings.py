"""Rankings by embeddings in the planted world: vectors that know the concepts, others that know nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from sae_auto_interp.errors import RefusedRequestError
from sae_auto_interp.judges.hidden import HIDDEN
from sae_auto_interp.metrics import auroc
from sae_auto_interp.planted import PLANTED
from sae_auto_interp.protocols import Embedder
from sae_auto_interp.scorers import EmbeddingScorer, ExampleEmbeddingScorer
from sae_auto_interp.types import Array, FeatureRecord, Score
from tests.support.embedders import WordsEmbedder
from tests.validity.chance import erring_interval, paired_ranking_interval, ranking_interval
from tests.validity.pooled import hidden, pooled
from tests.validity.simulated import Excerpt, first_adjective, guess, read_excerpt

Records = list[FeatureRecord]
SENTENCES = [feature.exact.text for feature in PLANTED]
SCORERS: dict[str, Callable[[Embedder], EmbeddingScorer | ExampleEmbeddingScorer]] = {
    "embedding": lambda embedder: EmbeddingScorer(embedder=embedder),
    "example_embedding": lambda embedder: ExampleEmbeddingScorer(embedder=embedder),
}


@dataclass(frozen=True)
class PlantedEmbedder:
    """A vector has a direction for each planted rule and one for all else: a sentence lies in its own direction, a text
    in those of the rules that hold of it (of its marks). A cosine of the two has one of two values."""

    miss_rate: float = 0.0
    false_alarm_rate: float = 0.0
    name: str = "planted"
    texts: list[str] = field(default_factory=list)

    async def embed(self, texts: Sequence[str]) -> Array:
        self.texts.extend(texts)
        return np.array([self.vector(text) for text in texts], np.float32)

    def vector(self, text: str) -> list[float]:
        if text in (*SENTENCES, HIDDEN):
            return [float(text == sentence) for sentence in (*SENTENCES, "", HIDDEN)]
        shares = [self.holds(place, text) / len(PLANTED) for place in range(len(PLANTED))]
        return [*np.sqrt(shares).tolist(), np.sqrt(max(0.0, 1 - sum(shares))), 0.0]

    def holds(self, place: int, text: str) -> bool:
        holds = read_excerpt(text).fits(PLANTED[place].exact)
        return holds != (guess(SENTENCES[place], text) < (self.miss_rate if holds else self.false_alarm_rate))

    async def close(self) -> None: ...


@dataclass(frozen=True)
class AngleEmbedder(PlantedEmbedder):
    """Knows nothing of concepts: one number of a text, from 0 to 1, is the angle between it and any sentence."""

    share: Callable[[Excerpt], float] = lambda excerpt: 0.0

    def vector(self, text: str) -> list[float]:
        angle = 0.0 if text in (*SENTENCES, HIDDEN) else np.pi / 2 * self.share(read_excerpt(text))
        return [float(np.cos(angle)), float(np.sin(angle))]


def guessing(excerpt: Excerpt) -> float:
    return guess(*excerpt.words, *map(str, excerpt.marks))


def by_position(excerpt: Excerpt) -> float:
    """Where the first mark is; without marks, the first adjective."""
    return (min(excerpt.marks) if excerpt.marks else first_adjective(excerpt.words)) / len(excerpt.words)


def by_length(excerpt: Excerpt) -> float:
    return excerpt.n_characters / 128


def counting_marks(excerpt: Excerpt) -> float:
    return len(excerpt.marks) / len(excerpt.words)


def area(score: Score) -> float:
    found = auroc(score)
    assert found.value is not None, found.reason
    assert found.n_failed == 0
    return found.value


def assert_at_chance(score: Score) -> None:
    in_pairs = score.scorer == "example_embedding"
    low, high = paired_ranking_interval(score) if in_pairs else ranking_interval(score)
    assert low <= area(score) <= high


@pytest.mark.validity("oracle")
@pytest.mark.parametrize("name", SCORERS)
def test_vectors_that_know_the_concepts_rank_perfectly(name: str, records: Records) -> None:
    assert area(pooled(SCORERS[name](PlantedEmbedder()), records)) == 1.0


@pytest.mark.validity("constant")
@pytest.mark.parametrize("name", SCORERS)
def test_one_vector_for_all_is_exactly_at_chance(name: str, records: Records) -> None:
    assert area(pooled(SCORERS[name](AngleEmbedder()), records)) == 0.5


@pytest.mark.validity
@pytest.mark.parametrize(
    ("name", "mind"),
    [(n, m) for n in SCORERS for m in (guessing, by_position, by_length)] + [("example_embedding", counting_marks)],
)
def test_vectors_that_know_nothing_rank_by_chance(
    name: str, mind: Callable[[Excerpt], float], records: Records
) -> None:
    assert_at_chance(pooled(SCORERS[name](AngleEmbedder(share=mind)), records))


@pytest.mark.validity("counting_marks", scorer="embedding")
def test_beside_an_explanation_no_marks_are_shown(records: Records) -> None:
    embedder = PlantedEmbedder()
    pooled(EmbeddingScorer(embedder=embedder), records)
    assert len(embedder.texts) > 500
    assert not any("<<" in text for text in embedder.texts)


@pytest.mark.validity("hidden", scorer="embedding")
def test_without_the_explanation_all_windows_are_alike(records: Records) -> None:
    assert area(pooled(EmbeddingScorer(embedder=PlantedEmbedder()), records, hidden)) == 0.5


@pytest.mark.validity("hidden", scorer="example_embedding")
def test_what_reads_no_explanation_scores_the_same_without_it(records: Records) -> None:
    """The probe has no value here: there is nothing to hide."""
    scorer = ExampleEmbeddingScorer(embedder=PlantedEmbedder())
    assert pooled(scorer, records[:4], hidden) == pooled(scorer, records[:4])


@pytest.mark.validity("erring", scorer="embedding")
@pytest.mark.parametrize(("miss_rate", "false_alarm_rate"), [(0.1, 0.3), (0.4, 0.0)])
def test_errors_cost_what_they_should(miss_rate: float, false_alarm_rate: float, records: Records) -> None:
    """Of two cosines, the area is the balanced accuracy of the one that is larger."""
    found = pooled(EmbeddingScorer(embedder=PlantedEmbedder(miss_rate, false_alarm_rate)), records)
    n_positive = sum(trial.target for trial in found.trials)
    low, high = erring_interval(n_positive, len(found.trials) - n_positive, miss_rate, false_alarm_rate)
    assert low <= area(found) <= high


@dataclass(frozen=True)
class OwnEmbedder(PlantedEmbedder):
    """Knows one rule: whether it holds is all that a vector says."""

    place: int = 0

    def vector(self, text: str) -> list[float]:
        return [1.0, 0.0] if self.holds(self.place, text) else [0.0, 1.0]


@pytest.mark.validity("erring", scorer="example_embedding")
@pytest.mark.parametrize(("miss_rate", "false_alarm_rate"), [(0.1, 0.2), (0.3, 0.0)])
def test_errors_cost_what_they_should_in_pairs(miss_rate: float, false_alarm_rate: float, records: Records) -> None:
    """Windows are compared with others that the same errors were made on, so far from chance that they average out. A
    pair is ranked rightly, wrongly, or not at all: 1 - (miss rate + false-alarm rate) / 2 again."""
    fits: list[tuple[float, float]] = []
    for place, record in enumerate(records):
        embedder = OwnEmbedder(miss_rate, false_alarm_rate, place=place)
        trials = pooled(ExampleEmbeddingScorer(embedder=embedder, n_examples=20), [record]).trials
        confidences = [trial.confidence or 0.0 for trial in trials]
        assert [trial.target for trial in trials] == [True, False] * (len(trials) // 2)
        fits += zip(confidences[::2], confidences[1::2], strict=True)
    found = float(np.mean([(firing > silent) + (firing == silent) / 2 for firing, silent in fits]))
    low, high = erring_interval(len(fits), len(fits), miss_rate, false_alarm_rate)
    assert low <= found <= high


@pytest.mark.validity("breaking")
@pytest.mark.parametrize("name", SCORERS)
def test_an_embedder_that_does_not_answer_scores_nothing(name: str, records: Records) -> None:
    refuses = WordsEmbedder(error=RefusedRequestError("no embeddings here"))
    score = pooled(SCORERS[name](refuses), records[:2])
    found = auroc(score)
    assert (found.value, found.n, found.n_failed) == (None, 0, len(score.trials))
    assert found.reason
