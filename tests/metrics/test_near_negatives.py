"""Scores by kind of negative, discrimination, rankings, and accuracy with its base rate."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from sae_auto_interp.errors import InputError
from sae_auto_interp.metrics import (
    accuracy,
    auroc,
    average_precision,
    average_precision_at_density,
    balanced_accuracy,
    balanced_accuracy_by_source,
    discrimination,
)
from sae_auto_interp.types import ExampleSource, Score
from tests.metrics.scores import BROKEN, make_score


def kinds(*groups: tuple[ExampleSource, int]) -> list[ExampleSource]:
    return [source for source, n in groups for _ in range(n)]


SOURCES = kinds(("activating", 4), ("random", 4), ("neighbour", 4))
NEAR = kinds(("activating", 4), ("neighbour", 4))
TARGETS = [1] * 4 + [0] * 8


def test_an_over_broad_explanation_loses_against_neighbours_only() -> None:
    score = make_score(TARGETS, [1] * 4 + [0] * 4 + [1] * 4, sources=SOURCES)
    assert {s: e.value for s, e in balanced_accuracy_by_source(score).items()} == {"neighbour": 0.5, "random": 1.0}
    assert discrimination(score).value == 0.5


def test_discrimination_by_probabilities_is_the_auroc_against_neighbours() -> None:
    rng = np.random.default_rng(0)
    p = np.round(rng.random(12), 1)  # some are tied
    score = make_score(TARGETS, [int(x > 0.5) for x in p], p.tolist(), sources=SOURCES)
    near = [*range(4), *range(8, 12)]
    expected = roc_auc_score(np.array(TARGETS)[near], p[near])
    assert discrimination(score).value == pytest.approx(expected)
    pairs = [(p[i] > p[j]) + 0.5 * (p[i] == p[j]) for i in range(4) for j in range(8, 12)]
    assert discrimination(score).value == pytest.approx(np.mean(pairs))
    assert discrimination(score, sources=("random",)).value != discrimination(score).value


def test_two_features_with_one_explanation_are_not_told_apart() -> None:
    """The judge's probability depends on the window's concept, which both share: exactly one half, by symmetry."""
    own, other = [0.9, 0.8, 0.7, 0.9], [0.9, 0.8, 0.7, 0.9]
    score = make_score([1] * 4 + [0] * 4, [1] * 8, own + other, sources=NEAR)
    assert discrimination(score).value == 0.5


def test_swapping_the_two_features_turns_discrimination_around() -> None:
    p = [0.9, 0.4, 0.7, 0.3, 0.2, 0.5, 0.1, 0.6]
    there = discrimination(make_score([1] * 4 + [0] * 4, [1] * 8, p, sources=NEAR)).value
    back = discrimination(make_score([1] * 4 + [0] * 4, [1] * 8, p[4:] + p[:4], sources=NEAR)).value
    assert there is not None
    assert back == pytest.approx(1 - there)


def test_without_neighbours_discrimination_is_undefined() -> None:
    found = discrimination(make_score([1, 0], [1, 0]))
    assert (found.value, found.reason) == (None, "no judged trial is negative")


def make_ranking(targets: list[int], values: list[float]) -> Score:
    score = make_score(targets, [0] * len(targets), values)
    return replace(score, kind="ranking", trials=tuple(replace(t, prediction=None) for t in score.trials))


def test_a_ranking_has_auroc_and_average_precision_and_no_verdicts() -> None:
    rng = np.random.default_rng(3)
    targets, values = [1] * 20 + [0] * 30, [float(x) for x in np.round(rng.normal(size=50), 1)]
    score = make_ranking(targets, values)
    assert auroc(score).value == pytest.approx(roc_auc_score(targets, values))
    found = average_precision(score, np.random.default_rng(0), n_resamples=50)
    assert found.value == pytest.approx(average_precision_score(targets, values))
    weights = np.where(np.array(targets) == 1, 0.1 / 20, 0.9 / 30)
    in_text = average_precision_at_density(score, 0.1, np.random.default_rng(0), n_resamples=50)
    assert in_text.value == pytest.approx(average_precision_score(targets, values, sample_weight=weights))
    with pytest.raises(InputError, match="kind 'ranking'"):
        balanced_accuracy(score)


def test_failed_trials_of_a_ranking_are_left_out_and_counted() -> None:
    score = make_ranking([1, 1, 0, 0], [0.9, 0.4, 0.6, 0.1])
    assert auroc(score).value == 0.75
    broken = replace(score, trials=(*score.trials, replace(score.trials[0], confidence=None, failure=BROKEN)))
    assert (auroc(broken).value, auroc(broken).n, auroc(broken).n_failed) == (0.75, 4, 1)


def test_accuracy_shows_the_base_rate_that_balanced_accuracy_does_not() -> None:
    """SAEBench's 4 of 14: the verdict "none" is right in 10."""
    none_fires = make_score([1] * 4 + [0] * 10, [0] * 14)
    assert accuracy(none_fires).value == pytest.approx(10 / 14)
    assert balanced_accuracy(none_fires).value == 0.5
    assert accuracy(make_score([1, 0], [1, 0])).value == 1
    assert accuracy(make_score([1], [None])).reason == "no trial was judged"
