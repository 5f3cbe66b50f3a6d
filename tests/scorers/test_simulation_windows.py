"""Which windows are simulated, and calibration: the formulas, and that no test window is calibrated on."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.errors import ClientError, RefusedRequestError, ServerError
from sae_auto_interp.metrics import simulation_metrics
from sae_auto_interp.scorers import SimulationScorer
from sae_auto_interp.scorers._simulating import linear, percentile
from sae_auto_interp.types import FeatureRecord, Request
from tests.support.evidence import explanation_of, make_example
from tests.support.simulators import KINDS, RECORD, biased, correlation, listing, made, score_of, true_level


def test_few_windows_are_half_activating_and_spread_over_their_strength() -> None:
    score = score_of(made("listing", true_level, n_windows=6))
    largest = [max(s.true) for s in score.simulations]
    assert [value > 0 for value in largest] == [True] * 3 + [False] * 3
    strengths = sorted((e.max_activation for e in RECORD.test), reverse=True)
    assert largest[:3] == [strengths[0], strengths[round(11 / 2)], strengths[11]]
    assert score == score_of(made("listing", true_level, n_windows=6))
    other = score_of(made("listing", true_level, n_windows=6, seed=1))
    assert [s.document for s in other.simulations] != [s.document for s in score.simulations]


@pytest.mark.parametrize("n", [2, 3, 24, 25, 1000])
def test_no_more_windows_than_there_are(n: int) -> None:
    n_found = len(score_of(made("listing", true_level, n_windows=n)).simulations)
    assert n_found == min(n, 24)


LEVELS = np.array([0, 0, 1, 2, 5, 5, 8], dtype=np.float64)
ACTIVATIONS = np.array([0, 0.1, 0, 1, 3, 2, 7], dtype=np.float64)


def test_linear_calibration_is_least_squares() -> None:
    fitted = linear(LEVELS, ACTIVATIONS)
    assert fitted is not None
    slope, intercept = np.polyfit(LEVELS, ACTIVATIONS, 1)
    assert fitted(np.array([0.0, 3.0, 10.0])) == pytest.approx(intercept + slope * np.array([0, 3, 10]))


def test_percentile_calibration_without_ties_is_interpolation_of_the_sorted_ones() -> None:
    levels, true = np.array([3.0, 0, 7, 1]), np.array([0.0, 5, 2, 9])
    fitted = percentile(levels, true)
    assert fitted is not None
    new = np.array([-1.0, 0, 0.5, 2, 7, 9])
    assert fitted(new) == pytest.approx(np.interp(new, [0, 1, 3, 7], [0, 2, 5, 9]))


def test_tied_levels_are_mapped_on_the_mean_of_their_ranks() -> None:
    fitted = percentile(LEVELS, ACTIVATIONS)
    assert fitted is not None
    assert fitted(np.array([0.0, 5.0])) == pytest.approx([0.0, 2.5])  # sorted truth: 0 0 | .1 | 1 | 2 3 | 7


@pytest.mark.parametrize("fit", [linear, percentile])
def test_levels_that_are_all_alike_calibrate_nothing(fit: Any) -> None:
    assert fit(np.full(5, 2.0), np.arange(5.0)) is None
    assert fit(np.zeros(0), np.zeros(0)) is None


def test_a_falling_line_calibrates_nothing() -> None:
    assert linear(LEVELS, -ACTIVATIONS) is None


@pytest.mark.parametrize("calibration", ["linear", "percentile"])
@pytest.mark.parametrize("kind", KINDS)
def test_calibration_repairs_the_unit_and_leaves_the_order(kind: str, calibration: str) -> None:
    plain, repaired = (
        simulation_metrics(
            score_of(made(kind, biased, calibration=c, n_calibration=20)), np.random.default_rng(0), n_resamples=20
        )
        for c in ("none", calibration)
    )
    assert plain.ev_correlation.value == pytest.approx(1)
    assert repaired.ev_correlation.value == pytest.approx(1, abs=0.01)
    assert plain.rsquared.value is not None
    assert repaired.rsquared.value is not None
    assert plain.rsquared.value < 0 < 0.98 < repaired.rsquared.value


def test_a_line_that_does_not_rise_leaves_the_correlation_as_it_is() -> None:
    def against(tokens: Sequence[str], i: int) -> float:
        return 9 - true_level(tokens, i)

    plain, calibrated = (correlation(score_of(made("listing", against, calibration=c))) for c in ("none", "linear"))
    assert plain.value == calibrated.value == pytest.approx(-1)


def asked_about(record: FeatureRecord, **settings: Any) -> set[tuple[str, ...]]:
    """Windows that a simulator saw for calibrating: those of its requests that are no test windows."""
    client = ScriptedClient(listing(lambda tokens, i: len(tokens[i])))
    asyncio.run(SimulationScorer(client=client, **settings).score(record, explanation_of(record), "e1"))
    shown = [json.loads(r.messages[-1].content.partition(" tokens: ")[2]) for r in client.requests]
    return {tuple(tokens) for tokens in shown} - {e.str_tokens for e in (*record.test, *record.non_activating.test)}


def test_calibration_windows_are_never_test_windows_and_are_development_windows_where_there_are_some() -> None:
    train = {e.str_tokens for e in (*RECORD.train, *RECORD.non_activating.explain)}
    assert asked_about(RECORD) == set()
    used = asked_about(RECORD, calibration="linear", n_calibration=8)
    assert used <= train
    assert len(used) == 8
    dev, silent = make_example([" the", " cat"], [0, 3], document=900), make_example([" no", " fish"], document=901)
    with_dev = replace(RECORD, dev=(dev,), non_activating=replace(RECORD.non_activating, dev=(silent,)))
    assert asked_about(with_dev, calibration="percentile") == {dev.str_tokens, silent.str_tokens}


@pytest.mark.parametrize(("error", "kind"), [(ServerError("503"), "server_error"), (RefusedRequestError("4"), "none")])
def test_a_passing_failure_while_calibrating_fails_every_window(error: ClientError, kind: str) -> None:
    """A fit on what happened to be answered would not come out the same again. What is refused for good is left out."""
    first = RECORD.train[0].str_tokens

    def answer(request: Request) -> Any:
        is_first = json.dumps(list(first), ensure_ascii=False) in request.messages[-1].content
        return error if is_first else listing(lambda tokens, i: len(tokens[i]) % 9)(request)

    scorer = SimulationScorer(client=ScriptedClient(answer), calibration="linear", n_calibration=24)
    kinds = {s.failure.kind if s.failure else "none" for s in score_of(scorer).simulations}
    assert kinds == {kind}


def test_without_anything_to_calibrate_on_every_window_is_a_failure() -> None:
    def answer(request: Request) -> str:
        shown = tuple(json.loads(request.messages[-1].content.partition(" tokens: ")[2]))
        tested = {e.str_tokens for e in (*RECORD.test, *RECORD.non_activating.test)}
        return listing(true_level)(request) if shown in tested else "I would rather not."

    score = score_of(SimulationScorer(client=ScriptedClient(answer), calibration="linear"))
    assert {s.failure.kind for s in score.simulations if s.failure} == {"not_calibrated"}
    assert all(s.failure for s in score.simulations)
    untrained = score_of(made("listing", true_level), replace(RECORD, train=()))
    assert {s.failure and s.failure.kind for s in untrained.simulations} == {"no_examples"}
    assert untrained.usage.n_requests == 0
