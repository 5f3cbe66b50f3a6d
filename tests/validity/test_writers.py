"""Scores of texts that a model writes, in the planted world: generation and sensitivity.

Writers take windows of the corpus for their texts, so that which of them a feature fires on is known.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.metrics import balanced_accuracy, confusion, tnr, tpr
from sae_auto_interp.planted import PLANTED, broad_explanation, exact_explanation, rule_of
from sae_auto_interp.scorers import GenerationScorer, SensitivityScorer
from sae_auto_interp.types import FeatureId, FeatureRecord, Request, Score, TextActivations
from tests.validity.chance import choice_interval, drawn_interval, erring_interval, ignorant_interval
from tests.validity.pooled import hidden, pooled
from tests.validity.simulated import WORD, Excerpt, first_adjective, read_excerpt

Records = list[FeatureRecord]
N_TEXTS = 10


class PlantedSubject:
    """Runs a text through the planted features."""

    async def activations(self, texts: Sequence[str], feature: FeatureId) -> list[TextActivations]:
        return [self.of(text, feature) for text in texts]

    def of(self, text: str, feature: FeatureId) -> TextActivations:
        words = WORD.findall(text)
        places = PLANTED[feature.index].exact.places(words)
        return TextActivations(tuple(words), np.array(places, np.float32) * 5)


@pytest.fixture(scope="module")
def pool(records: Records) -> tuple[str, ...]:
    """Different texts in random order, none of which is shown as an example of any feature."""
    shown = {e.text for r in records for e in r.train}
    texts = sorted({e.text for r in records for e in (*r.test, *r.non_activating.test)} - shown)
    return tuple(texts[i] for i in np.random.default_rng(0).permutation(len(texts)))


def fires(text: str, place: int) -> bool:
    return any(PLANTED[place].exact.places(WORD.findall(text)))


# ------------------------------------------------------------------ generation: told what to write


@dataclass
class Writer:
    """Writes such that the description applies, or, asked for near misses, that it does not; some texts by mistake the
    other way. Told nothing, it writes anything."""

    pool: tuple[str, ...]
    miss_rate: float = 0.0
    false_alarm_rate: float = 0.0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(1)

    def __call__(self, request: Request) -> str:
        system, user = (message.content for message in request.messages)
        rule, wants = rule_of(user.removeprefix("Description: ")), "near misses" not in system
        texts = [self.pool[i] for i in self.rng.permutation(len(self.pool))]
        if rule is None:
            return json.dumps({"texts": texts[:N_TEXTS]})
        right = [text for text in texts if any(rule.places(WORD.findall(text))) == wants]
        wrong = [text for text in texts if any(rule.places(WORD.findall(text))) != wants]
        errs = self.rng.random(N_TEXTS) < (self.miss_rate if wants else self.false_alarm_rate)
        return json.dumps({"texts": [(wrong if err else right)[i] for i, err in enumerate(errs)]})


def generation(writer: Callable[[Request], str]) -> GenerationScorer:
    return GenerationScorer(client=ScriptedClient(writer), reader=PlantedSubject())


@pytest.mark.validity("oracle", scorer="generation")
def test_a_writer_that_understands_is_perfect(records: Records, pool: tuple[str, ...]) -> None:
    assert balanced_accuracy(pooled(generation(Writer(pool)), records)).value == 1.0
    broad = pooled(generation(Writer(pool)), records[:8], broad_explanation)
    found, silent = tpr(broad).value, tnr(broad).value
    assert found is not None
    assert 0.2 < found < 0.8  # about half of what is written for an over-broad rule is the neighbour's
    assert silent == 1.0


@pytest.mark.validity("constant", scorer="generation")
def test_the_same_texts_whatever_is_asked_are_exactly_at_chance(records: Records, pool: tuple[str, ...]) -> None:
    """Found as often where the feature should fire as where it should not."""
    found = pooled(generation(lambda _: json.dumps({"texts": pool[:N_TEXTS]})), records)
    assert balanced_accuracy(found).value == 0.5


def assert_at_chance(score: Score) -> None:
    found = balanced_accuracy(score).value
    low, high = ignorant_interval(confusion(score))
    assert found is not None
    assert low <= found <= high


@pytest.mark.validity("guessing", scorer="generation")
def test_any_texts_are_at_chance(records: Records, pool: tuple[str, ...]) -> None:
    assert_at_chance(pooled(generation(Writer(pool, 0.5, 0.5)), records))


@pytest.mark.validity("hidden", scorer="generation")
def test_a_writer_that_is_not_told_the_explanation_is_at_chance(records: Records, pool: tuple[str, ...]) -> None:
    assert_at_chance(pooled(generation(Writer(pool)), records, hidden))


@pytest.mark.validity("counting_marks", "by_position", "by_length", scorer="generation")
def test_who_writes_is_shown_nothing_but_the_explanation(records: Records, pool: tuple[str, ...]) -> None:
    """No window, mark, place or length to go by: two requests for each explanation, whatever the record."""
    scorer = generation(Writer(pool))
    pooled(scorer, records, lambda _: exact_explanation(records[0].feature))
    assert isinstance(scorer.client, ScriptedClient)
    assert len(scorer.client.requests) == 2 * len(records)
    asked = {request.canonical_json() for request in scorer.client.requests}
    assert len(asked) == 2


@pytest.mark.validity("erring", scorer="generation")
@pytest.mark.parametrize(("miss_rate", "false_alarm_rate"), [(0.1, 0.3), (0.4, 0.0)])
def test_errors_of_a_writer_cost_what_they_should(
    miss_rate: float, false_alarm_rate: float, records: Records, pool: tuple[str, ...]
) -> None:
    score = pooled(generation(Writer(pool, miss_rate, false_alarm_rate)), records)
    counts, found = confusion(score), balanced_accuracy(score).value
    low, high = erring_interval(counts.n_positive, counts.n_negative, miss_rate, false_alarm_rate)
    assert found is not None
    assert low <= found <= high


# ------------------------------------------------------------------ sensitivity: shown what to write

Key = Callable[[list[Excerpt], Excerpt], float]
"""(shown examples, a text) -> how unlike them the text is to a writer that knows nothing."""


@dataclass
class Imitator:
    """Writes texts that have what most of the marks have in common; some by mistake without it."""

    pool: tuple[str, ...]
    miss_rate: float = 0.0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(1)

    def __call__(self, request: Request) -> str:
        shown = shown_in(request)
        rule = max((f.exact for f in PLANTED), key=lambda rule: sum(excerpt.fits(rule) for excerpt in shown))
        texts = [self.pool[i] for i in self.rng.permutation(len(self.pool))]
        right, wrong = ([t for t in texts if any(rule.places(WORD.findall(t))) == fits] for fits in (True, False))
        errs = self.rng.random(N_TEXTS) < self.miss_rate
        return json.dumps({"texts": [(wrong if err else right)[i] for i, err in enumerate(errs)]})


def shown_in(request: Request) -> list[Excerpt]:
    texts = re.split(r"(?:^|\n\n)Text \d+: ", request.messages[1].content)
    return [read_excerpt(text) for text in texts if text]


def guessing(shown: list[Excerpt], text: Excerpt) -> float:
    return 0.0


def by_length(shown: list[Excerpt], text: Excerpt) -> float:
    return abs(text.n_characters - float(np.mean([excerpt.n_characters for excerpt in shown])))


def by_position(shown: list[Excerpt], text: Excerpt) -> float:
    return abs(first_adjective(text.words) - float(np.mean([min(excerpt.marks) for excerpt in shown])))


def counting_marks(shown: list[Excerpt], text: Excerpt) -> float:
    return abs(text.words.count("the") - float(np.mean([len(excerpt.marks) for excerpt in shown])))


def imitating(pool: tuple[str, ...], key: Key) -> Callable[[Request], str]:
    """Takes the texts that are most alike by `key`; of those that are alike as much, any."""
    rng = np.random.default_rng(1)

    def answer(request: Request) -> str:
        shown = shown_in(request)
        order = [pool[i] for i in rng.permutation(len(pool))]
        return json.dumps({"texts": sorted(order, key=lambda text: key(shown, read_excerpt(text)))[:N_TEXTS]})

    return answer


def sensitivity(writer: Callable[[Request], str]) -> SensitivityScorer:
    return SensitivityScorer(client=ScriptedClient(writer), reader=PlantedSubject())


@pytest.mark.validity("oracle", scorer="sensitivity")
def test_a_writer_that_sees_what_the_marks_have_in_common_is_perfect(records: Records, pool: tuple[str, ...]) -> None:
    score = pooled(sensitivity(Imitator(pool)), records)
    assert (tpr(score).value, tpr(score).n_failed) == (1.0, 0)
    undefined = balanced_accuracy(score)  # all texts are to make the feature fire
    assert (undefined.value, undefined.reason) == (None, "no judged trial is negative")


@pytest.mark.validity("constant", scorer="sensitivity")
def test_the_same_texts_for_all_features_fire_as_often_as_they_do(records: Records, pool: tuple[str, ...]) -> None:
    """Chance is here how often a feature fires in any text."""
    score = pooled(sensitivity(lambda _: json.dumps({"texts": pool[:N_TEXTS]})), records)
    expected = np.mean([fires(text, place) for text in pool[:N_TEXTS] for place in range(len(PLANTED))])
    assert 0 < expected < 0.3
    assert tpr(score).value == pytest.approx(float(expected))


@pytest.mark.validity(scorer="sensitivity")
@pytest.mark.parametrize("mind", [guessing, counting_marks, by_position, by_length])
def test_texts_that_are_alike_in_what_means_nothing_fire_by_chance(
    mind: Key, records: Records, pool: tuple[str, ...]
) -> None:
    found = tpr(pooled(sensitivity(imitating(pool, mind)), records)).value
    n_firing = [sum(fires(text, place) for text in pool) for place in range(len(PLANTED))]
    low, high = drawn_interval(n_firing, len(pool), N_TEXTS)
    assert found is not None
    assert low <= found <= high < 0.5


@pytest.mark.validity("hidden", scorer="sensitivity")
def test_what_reads_no_explanation_scores_the_same_without_it(records: Records, pool: tuple[str, ...]) -> None:
    """The probe has no value here: there is nothing to hide."""
    told, untold = (pooled(sensitivity(Imitator(pool)), records[:4], of) for of in (exact_explanation, hidden))
    assert told == untold


@pytest.mark.validity("erring", scorer="sensitivity")
def test_texts_that_fail_cost_what_they_should(records: Records, pool: tuple[str, ...]) -> None:
    score = pooled(sensitivity(Imitator(pool, miss_rate=0.3)), records)
    found, (low, high) = tpr(score).value, choice_interval(len(score.trials), 0.7)
    assert found is not None
    assert low <= found <= high


@pytest.mark.validity("breaking")
@pytest.mark.parametrize("name", ["generation", "sensitivity"])
def test_what_cannot_be_read_is_no_text_and_no_score(name: str, records: Records) -> None:
    make = {"generation": generation, "sensitivity": sensitivity}[name]
    score = pooled(make(lambda _: "I'm sorry, but I can't help with that."), records[:2])
    assert {trial.failure.kind for trial in score.trials if trial.failure is not None} == {"unparsable"}
    found = tpr(score)
    assert (found.value, found.n_failed) == (None, sum(trial.target for trial in score.trials))
    assert found.reason
