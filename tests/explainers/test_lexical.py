"""The lexical explainer finds the rule that was planted, and says how often it saw it."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.explainers import LexicalExplainer
from sae_auto_interp.judges import LexicalJudge
from sae_auto_interp.prompting.token_rules import Clause, read_rule
from sae_auto_interp.scorers import DetectionScorer, FuzzingScorer
from sae_auto_interp.types import Explanation, Failure, FeatureRecord, ShownExample, Trial
from tests.support.evidence import FEATURE, VOCABULARY, Fires, make_evidence, make_example, planted_record


def explain(record: FeatureRecord, **settings: Any) -> Explanation:
    explained = asyncio.run(LexicalExplainer(**settings).explain(record))
    assert isinstance(explained, Explanation), explained
    return explained


def explain_in_vain(record: FeatureRecord) -> Failure:
    failed = asyncio.run(LexicalExplainer().explain(record))
    assert isinstance(failed, Failure), failed
    return failed


def on_token(tokens: Sequence[str], i: int) -> bool:
    return tokens[i] == " cat"


def on_bigram(tokens: Sequence[str], i: int) -> bool:
    return tokens[i] == "(" and i > 0 and tokens[i - 1] == " foo"


def after_token(tokens: Sequence[str], i: int) -> bool:
    return i > 0 and tokens[i - 1] == " def"


def on_class(tokens: Sequence[str], i: int) -> bool:
    return tokens[i].strip().isdigit()


def on_word(tokens: Sequence[str], i: int) -> bool:
    return tokens[i].strip().lower() == "import"


FEW_TOKENS = (" foo", " bar", " the", "(", ")", ".", " cat")
PLANTED = [
    (on_token, None, Clause(token=" cat")),
    (on_bigram, FEW_TOKENS, Clause(token="(", previous=" foo")),
    (after_token, None, Clause(previous=" def")),
    (on_class, None, Clause(token_class="numbers")),
    (on_word, None, Clause(word="import")),
]


def planted(fires: Fires, vocabulary: tuple[str, ...] | None, seed: int = 0) -> FeatureRecord:
    return planted_record(fires, seed=seed, vocabulary=vocabulary or VOCABULARY)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("fires", "vocabulary", "clause"), PLANTED)
def test_a_planted_feature_is_recovered_with_its_count(
    fires: Fires, vocabulary: tuple[str, ...] | None, clause: Clause, seed: int
) -> None:
    record = planted(fires, vocabulary, seed)
    assert explain(record).text == f"Fires on {clause.words} (30 of 30)."


@pytest.mark.parametrize(("fires", "vocabulary", "clause"), PLANTED)
def test_the_rule_scores_1_on_examples_that_the_explainer_never_saw(
    fires: Fires, vocabulary: tuple[str, ...] | None, clause: Clause
) -> None:
    record = planted(fires, vocabulary)
    explanation = explain(record)
    for scorer in (DetectionScorer(judge=LexicalJudge()), FuzzingScorer(judge=LexicalJudge())):
        score = asyncio.run(scorer.score(record, explanation, "e"))
        assert len(score.trials) == 60
        # A copied mark may fall on a token that the rule names, but not in a window where the feature is silent.
        assert [t for t in score.trials if t.prediction != t.target] == []


def test_a_feature_of_two_tokens_gets_a_clause_for_each_with_its_own_count() -> None:
    record = planted_record(lambda tokens, i: tokens[i] in (" cat", " Rome"))
    n_of = {name: sum(_has_peak(e.str_tokens, e.activations, name) for e in record.train) for name in (" cat", " Rome")}
    assert sum(n_of.values()) > 30 > max(n_of.values())
    found = dict(re.findall(r'the token "([^"]*)" \((\d+) of 30\)', explain(record).text))
    assert {name: int(n) for name, n in found.items()} == n_of


def _has_peak(tokens: Sequence[str], activations: np.ndarray, name: str) -> bool:
    return any(t == name and a > activations.max() / 2 for t, a in zip(tokens, activations, strict=True))


def test_a_token_that_occurs_everywhere_is_not_named() -> None:
    """Every peak follows " the", and nine of ten are " cat"; but " the" stands in the silent windows as well."""
    peaks = [" cat"] * 9 + [" dog"]
    train = [make_example([" the", peak, f" x{d}"], [0, 3, 0], document=d) for d, peak in enumerate(peaks)]
    with_the = [make_example([" the", f" y{d}", " the"], document=d) for d in range(10, 20)]
    without = [make_example([" other", f" y{d}", " words"], document=d) for d in range(10, 20)]
    assert explain(make_evidence(train, explain=with_the)).text == 'Fires on the token " cat" (9 of 10).'
    assert explain(make_evidence(train, explain=without)).text == 'Fires on any token after " the" (10 of 10).'


def test_a_word_that_mostly_accompanies_the_peaks_does_not_come_first() -> None:
    """ " foo" stands in all active windows and in no other, but the feature fires on it in three of twelve only."""
    words = [f" w{n}" for n in range(12)]
    train = [make_example([" foo", " def", word, "."], [0, 0, 5, 0], document=n) for n, word in enumerate(words[:9])]
    train += [make_example([" foo", " a", word, "."], [5, 0, 0, 0], document=9 + n) for n, word in enumerate(words[9:])]
    silent = [make_example([" bar", word, ".", " a"], document=20 + n) for n, word in enumerate(words)]
    rule = read_rule(explain(make_evidence(train, explain=silent)).text)
    assert rule == (Clause(previous=" def"), Clause(token=" foo"))


def test_the_longest_rule_and_the_smallest_gain_are_settings() -> None:
    names = (" cat", "(", " Rome", "\n", " 7")
    record = planted_record(lambda tokens, i: tokens[i] in names, n=60, window=4)
    assert len(read_rule(explain(record).text)) == 5
    assert len(read_rule(explain(record, max_clauses=2).text)) == 2
    assert len(read_rule(explain(record, min_gain=0.5).text)) == 1


def test_what_counts_as_a_peak_is_a_setting() -> None:
    train = [make_example([" cat", "(", f" w{d}"], [2, 0, 5], document=d) for d in range(4)]
    record = make_evidence(train, explain=[make_example([" a", "("], document=9)])
    assert read_rule(explain(record, peak_fraction=0.3).text) == (Clause(token=" cat"),)
    assert Clause(token=" cat") not in read_rule(explain(record, peak_fraction=0.5).text)


def test_the_same_evidence_gives_the_same_explanation_in_any_order() -> None:
    record = planted_record(lambda tokens, i: tokens[i] in (" cat", " Rome", "(") and i % 2 == 0)
    reordered = make_evidence(record.train[::-1], record.test, record.non_activating.explain[::-1])
    assert explain(record) == explain(record) == explain(reordered)


def test_test_examples_are_never_looked_at() -> None:
    record = planted_record(on_token)
    other = planted_record(on_class, seed=1)
    exchanged = make_evidence(record.train, other.test, record.non_activating.explain, other.non_activating.test)
    assert explain(record).text == explain(exchanged).text


def test_clauses_of_one_example_serve_where_there_are_no_others() -> None:
    record = make_evidence(
        [make_example([" the", " cat"], [0, 2])], explain=[make_example([" the", " dog"], document=1)]
    )
    assert read_rule(explain(record).text) == (Clause(token=" cat"),)


def test_without_silent_windows_there_is_still_a_rule() -> None:
    record = make_evidence([make_example(["(", " cat"], [0, 2]), make_example([":", " cat"], [0, 3], document=1)])
    assert explain(record).text == 'Fires on the token " cat" (2 of 2).'


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (make_evidence(), "no_examples"),
        (make_evidence([make_example([" cat"], [0])]), "no_examples"),
        (make_evidence([make_example([" cat"], [1]), make_example([], [])]), "no_text"),
        (make_evidence([make_example([" cat"], [1])], explain=[make_example([], [])]), "no_text"),
    ],
)
def test_what_cannot_be_explained_is_a_typed_failure(record: FeatureRecord, kind: str) -> None:
    failure = explain_in_vain(record)
    assert (failure.stage, failure.kind) == ("explain", kind)
    assert str(FEATURE) in failure.message


@pytest.mark.parametrize("settings", [{"max_clauses": 0}, {"peak_fraction": 1.0}, {"peak_fraction": -0.1}])
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        LexicalExplainer(**settings)


def test_a_rule_of_one_feature_is_at_chance_on_another() -> None:
    """What the shuffled control must show when explanations say nothing about their feature."""
    records = [planted_record(on_token, n=40), planted_record(on_class, n=40, seed=5)]
    text = explain(records[1]).text

    def accuracy(trials: Sequence[Trial]) -> float:
        right = [[t.prediction == t.target for t in trials if t.target is target] for target in (True, False)]
        return float(np.mean([np.mean(group) for group in right]))

    explanation = Explanation(FEATURE, text, "lexical", "x")
    score = asyncio.run(DetectionScorer(judge=LexicalJudge()).score(records[0], explanation, "e"))
    assert abs(accuracy(score.trials) - 0.5) < 0.2


def test_shown_examples_hold_no_activation() -> None:
    assert set(ShownExample.__slots__) == {"str_tokens", "highlighted"}
