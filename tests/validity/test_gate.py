"""What a score must do beyond its extremes: fall with every error, follow the truth, and notice labels that are missing
or too many (the sanity checks of arXiv 2506.05774).

Here the truth about an explanation is counted over the whole corpus, and not on the examples that a scorer is shown.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from sae_auto_interp.judges import FunctionJudge
from sae_auto_interp.metrics import balanced_accuracy, f1_at_density, pearson
from sae_auto_interp.planted import PLANTED, PlantedJudge, PlantedWorld, exact_explanation, record_config
from sae_auto_interp.planted.words import ADJECTIVES, NOUNS
from sae_auto_interp.planted.world import WINDOW
from sae_auto_interp.protocols import Judge, Scorer
from sae_auto_interp.scorers import DetectionScorer, FuzzingSameWindowScorer, FuzzingScorer, SaebenchScorer
from sae_auto_interp.types import FeatureRecord, Score, ShownExample
from tests.validity.pooled import pooled

Records = list[FeatureRecord]
SCORERS: dict[str, Callable[[Judge], Scorer]] = {
    "detection": lambda judge: DetectionScorer(judge=judge),
    "fuzzing": lambda judge: FuzzingScorer(judge=judge),
    "fuzzing_same_window": lambda judge: FuzzingSameWindowScorer(judge=judge),
    "saebench": lambda judge: SaebenchScorer(judge=judge),
}
CLASSES = {
    0: "farm animal", 1: "wild animal", 2: "string instrument", 3: "wind instrument", 4: "boat", 5: "land vehicle",
    7: "building", 8: "colour", 9: "material",
}  # fmt: skip
"""Planted features that are one class of words each."""
WORDS = NOUNS | ADJECTIVES


@pytest.mark.parametrize("name", SCORERS)
def test_every_further_error_of_the_judge_lowers_the_score(name: str, records: Records) -> None:
    """The judge's errors at a rate are among those at a higher one, so this is no matter of chance."""
    judges = [PlantedJudge(miss_rate=rate, false_alarm_rate=rate) for rate in (0.0, 0.1, 0.25, 0.5)]
    found = [balanced_accuracy(pooled(SCORERS[name](judge), records[:8])).value for judge in judges]
    values = [value for value in found if value is not None]
    assert len(values) == len(found)
    assert values[0] == 1.0
    assert all(lower < higher for higher, lower in pairwise(values))


@dataclass(frozen=True)
class Claim:
    """An explanation as the set of words that it says a feature fires on."""

    words: frozenset[str]

    def places(self, tokens: tuple[str, ...]) -> list[bool]:
        return [token.strip().lower() in self.words for token in tokens]

    def judge(self) -> FunctionJudge:
        def fits(explanation: str, shown: ShownExample) -> bool:
            return any(self.places(shown.str_tokens))

        return FunctionJudge(function=fits)


@pytest.fixture(scope="module")
def many(world: PlantedWorld) -> Records:
    """With silent windows enough to see a false alarm in fifty."""
    return world.records(record_config(24, n_random=200))


@pytest.fixture(scope="module")
def windows(world: PlantedWorld) -> list[tuple[str, ...]]:
    """All of the corpus."""
    words = [word for row in world.vocabulary.windows(world.rows.tokens) for word in row]
    return [tuple(words[i : i + WINDOW]) for i in range(0, len(words), WINDOW)]


def score_of(claim: Claim, record: FeatureRecord) -> Score:
    return asyncio.run(DetectionScorer(judge=claim.judge()).score(record, exact_explanation(record.feature), "e"))


def f1(claim: Claim, record: FeatureRecord) -> float:
    found = f1_at_density(score_of(claim, record), record.stats.n_active_windows / record.stats.n_windows).value
    return 0.0 if found is None else found


def missing(place: int, rng: random.Random) -> Claim:
    """Half of the words that it should name."""
    own = sorted(WORDS[CLASSES[place]])
    return Claim(frozenset(rng.sample(own, len(own) // 2)))


def extra(place: int, rng: random.Random) -> Claim:
    """As many words again, of another class that a place can have."""
    own = CLASSES[place]
    others = [name for name in CLASSES.values() if name != own and (name in NOUNS) == (own in NOUNS)]
    return Claim(frozenset(WORDS[own]) | frozenset(WORDS[rng.choice(others)]))


@pytest.mark.parametrize("wrong", [missing, extra])
def test_f1_in_text_falls_when_labels_are_missing_and_when_there_are_too_many(
    wrong: Callable[[int, random.Random], Claim], many: Records
) -> None:
    """Of nine features with four wrong explanations each more than nine in ten lose; balanced accuracy against random
    windows hardly sees the second kind."""
    rng = random.Random(0)
    pairs = [(place, wrong(place, rng)) for place in CLASSES for _ in range(4)]
    exact = {place: f1(Claim(frozenset(WORDS[name])), many[place]) for place, name in CLASSES.items()}
    falls = [f1(claim, many[place]) < exact[place] - 0.05 for place, claim in pairs]
    assert set(exact.values()) == {1.0}
    assert np.mean(falls) > 0.9
    if wrong is extra:
        seen = [balanced_accuracy(score_of(claim, many[place])).value or 0.0 for place, claim in pairs]
        assert np.mean(seen) > 0.97


def test_scores_rank_explanations_as_the_truth_does(many: Records, windows: list[tuple[str, ...]]) -> None:
    """Explanations that name some of the right words and some of the wrong ones, from nearly right to useless."""
    rng = random.Random(1)
    true: list[float] = []
    found: list[float] = []
    for place, name in list(CLASSES.items())[:5]:
        others = [word for other in CLASSES.values() if other != name for word in WORDS[other]]
        for n_right in (1, 3, 5):
            for n_wrong in (0, 4, 16):
                words = rng.sample(sorted(WORDS[name]), n_right) + rng.sample(others, n_wrong)
                claim = Claim(frozenset(words))
                true.append(f1_over(windows, claim, place))
                found.append(f1(claim, many[place]))
    assert float(np.corrcoef(stats.rankdata(true), stats.rankdata(found))[0, 1]) > 0.9  # Spearman


def f1_over(windows: list[tuple[str, ...]], claim: Claim, place: int) -> float:
    fires = np.array([any(PLANTED[place].exact.places(words)) for words in windows])
    said = np.array([any(claim.places(words)) for words in windows])
    return float(2 * (fires & said).sum() / (fires.sum() + said.sum()))


@pytest.mark.parametrize("wrong", [missing, extra])
def test_correlation_over_all_of_a_text_falls_as_well(
    wrong: Callable[[int, random.Random], Claim], windows: list[tuple[str, ...]]
) -> None:
    """Of a simulator that gives each word that it is told of the same level."""
    rng = random.Random(0)
    for place, name in CLASSES.items():
        assert simulated(Claim(frozenset(WORDS[name])), place, windows) == pytest.approx(1.0)
        assert simulated(wrong(place, rng), place, windows) < 0.9


def simulated(claim: Claim, place: int, windows: list[tuple[str, ...]]) -> float:
    fires = np.concatenate([PLANTED[place].exact.places(words) for words in windows]).astype(np.float64)
    told = np.concatenate([claim.places(words) for words in windows]).astype(np.float64)
    value = pearson(fires, told)
    assert value is not None
    return value
