"""Fuzzing: the marks of negatives look exactly like those of positives (a peer whose did not scored marks alone)."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.prompting.highlights import marked_text
from sae_auto_interp.scorers import FuzzingScorer
from sae_auto_interp.types import FeatureId, FeatureRecord, ShownExample
from tests.support.evidence import PlainJudge, explanation_of, make_evidence, make_example, oracle, planted_record

Asked = list[tuple[ShownExample, bool]]
"""Each shown example with its target."""


def ask(record: FeatureRecord, **options: Any) -> Asked:
    judge = PlainJudge(lambda shown: True)
    score = asyncio.run(FuzzingScorer(judge=judge, **options).score(record, explanation_of(record), "e"))
    shown = [example for batch in judge.batches for example in batch]
    return [(example, trial.target) for example, trial in zip(shown, score.trials, strict=True)]


def masks(asked: Asked, target: bool) -> Counter[tuple[bool, ...]]:
    return Counter(marks(shown) for shown, truth in asked if truth is target)


def balanced_accuracy(asked: Asked, judge: Callable[[ShownExample], bool]) -> float:
    rates = [np.mean([judge(shown) is truth for shown, truth in asked if truth is target]) for target in (True, False)]
    return float(np.mean(rates))


def fires(tokens: Sequence[str], i: int) -> bool:
    """On the token and, more weakly or strongly, on what follows: runs of several lengths."""
    return tokens[i] in (" cat", "(", " the") or (i > 0 and tokens[i - 1] == " cat")


WINDOWS = st.lists(
    st.lists(st.sampled_from([0.0, 0.0, 0.5, 1.0, 2.0, 9.0]), min_size=6, max_size=6).filter(any),
    min_size=1,
    max_size=12,
)


@settings(deadline=None)
@given(WINDOWS, st.integers(0, 5))
def test_negatives_have_the_marks_of_the_positives(windows: list[list[float]], seed: int) -> None:
    test = [make_example(["a"] * 6, acts, document=d) for d, acts in enumerate(windows)]
    silent = [make_example(["b"] * 6, document=50 + d) for d in range(len(windows))]
    asked = ask(make_evidence(test=test, silent=silent), seed=seed)
    assert masks(asked, True) == masks(asked, False)
    for judge in (_has_more_than_two_marks, _marks_the_second, _marks_the_last, _first_mark_is_early):
        assert balanced_accuracy(asked, judge) == 0.5


def marks(shown: ShownExample) -> tuple[bool, ...]:
    assert shown.highlighted is not None
    return shown.highlighted


def _has_more_than_two_marks(shown: ShownExample) -> bool:
    return sum(marks(shown)) > 2


def _marks_the_second(shown: ShownExample) -> bool:
    return marks(shown)[1]


def _marks_the_last(shown: ShownExample) -> bool:
    return marks(shown)[-1]


def _first_mark_is_early(shown: ShownExample) -> bool:
    return marks(shown).index(True) < 3


@pytest.mark.parametrize(("n", "n_silent"), [(40, 40), (40, 80), (40, 20), (40, 50)])
def test_no_rule_about_marks_alone_does_better_than_chance(n: int, n_silent: int) -> None:
    asked = ask(planted_record(fires, n=n, n_silent=n_silent))
    length = len(asked[0][0].str_tokens)
    rules: list[Callable[[ShownExample], bool]] = [
        *(lambda shown, k=k: sum(marks(shown)) >= k for k in range(1, length)),
        *(lambda shown, p=p: marks(shown)[p] for p in range(length)),
    ]
    # with unequal numbers, a part of the negatives repeats some of the marks: close to chance, no longer exactly at it
    tolerance = 1e-12 if n_silent % n == 0 else 0.12
    assert max(abs(balanced_accuracy(asked, rule) - 0.5) for rule in rules) <= tolerance


def test_each_positive_lends_its_marks_equally_often() -> None:
    test = [make_example(["a"] * 8, np.eye(8)[d], document=d) for d in range(8)]
    silent = [make_example(["b"] * 8, document=50 + d) for d in range(20)]
    lent = masks(ask(make_evidence(test=test, silent=silent)), False)
    assert sorted(lent.values()) == [2, 2, 2, 2, 3, 3, 3, 3]


def test_marks_differ_between_negatives_and_follow_from_seed_and_feature() -> None:
    record = planted_record(fires, n=40)
    negatives = [shown.highlighted for shown, target in ask(record) if not target]
    assert len(set(negatives)) > 10
    again = [shown.highlighted for shown, target in ask(record) if not target]
    assert negatives == again
    pairs = {(shown.str_tokens, shown.highlighted) for shown, target in ask(record) if not target}
    assert pairs != {(shown.str_tokens, shown.highlighted) for shown, target in ask(record, seed=1) if not target}
    other = planted_record(fires, n=40, feature=FeatureId("transformer.h.1", 8))
    assert pairs != {(shown.str_tokens, shown.highlighted) for shown, target in ask(other) if not target}


def positive_text(activations: list[float], threshold: float = 0.3) -> str:
    asked = ask(make_evidence(test=[make_example(["a", " b", " c", " d"], activations)]), threshold=threshold)
    ((shown, target),) = asked
    assert target
    assert shown.highlighted is not None
    return marked_text(shown.str_tokens, shown.highlighted, ("<<", ">>"))


def test_positives_are_marked_from_the_threshold_on() -> None:
    assert positive_text([0, 1, 2, 0]) == "a<< b c>> d"
    assert positive_text([0, 1, 2, 0], threshold=0.5) == "a<< b c>> d"
    assert positive_text([0, 1, 2, 0], threshold=0.51) == "a b<< c>> d"
    assert positive_text([0, 1, 2, 0], threshold=1.0) == "a b<< c>> d"
    assert positive_text([0, 1, 2, 0], threshold=0.0) == "a<< b c>> d", "a silent token is never marked"


@pytest.mark.parametrize("n_tokens", [1, 2, 3, 5, 9])
def test_windows_of_another_length_still_get_marks(n_tokens: int) -> None:
    """Records that were built by hand; the loader's windows are all of one length."""
    test = [make_example(["a"] * 6, [0, 0, 0, 1, 1, 1])]
    silent = [make_example(["b"] * n_tokens, document=1)]
    ((shown, _),) = [(shown, t) for shown, t in ask(make_evidence(test=test, silent=silent)) if not t]
    assert shown.highlighted is not None
    assert len(shown.highlighted) == n_tokens
    assert 1 <= sum(shown.highlighted) <= 3


def test_without_positives_there_is_nothing_to_ask() -> None:
    assert ask(make_evidence(silent=[make_example(["b"], document=1)])) == []


def test_without_negatives_the_positives_are_asked() -> None:
    asked = ask(planted_record(fires, n=10))
    assert len([target for _, target in asked if target]) == 10
    assert [target for _, target in ask(make_evidence(test=[make_example(["a"], [1])]))] == [True]


def test_a_judge_that_reads_the_explanation_beats_one_that_reads_the_marks() -> None:
    def on_cat(tokens: Sequence[str], i: int) -> bool:
        return tokens[i] == " cat"

    asked = ask(planted_record(on_cat, n=40))
    assert balanced_accuracy(asked, lambda shown: bool(oracle(on_cat).answer(shown))) == 1.0
    assert balanced_accuracy(asked, _has_more_than_two_marks) == 0.5


@pytest.mark.parametrize("threshold", [-0.1, 1.1])
def test_the_threshold_is_a_fraction(threshold: float) -> None:
    with pytest.raises(ConfigError, match="threshold"):
        FuzzingScorer(judge=oracle(fires), threshold=threshold)
