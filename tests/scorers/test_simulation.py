"""Simulation: who says the truth has correlation 1, replies are read strictly, levels stand where they should."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sae_auto_interp.clients import LimitedClient, ScriptedClient
from sae_auto_interp.errors import ClientError, ConfigError, RefusedRequestError, ServerError
from sae_auto_interp.metrics import simulation_metrics
from sae_auto_interp.scorers import (
    AllAtOnceSimulationScorer,
    SimulationScorer,
    TokenByTokenSimulationScorer,
)
from sae_auto_interp.scorers._levels import expected_level
from sae_auto_interp.scorers.simulation import parse_levels
from sae_auto_interp.types import (
    Failure,
    FeatureRecord,
    Request,
    Response,
    TokenLogprob,
    Usage,
)
from tests.support.evidence import assert_golden, make_evidence, make_example
from tests.support.prompt_readers import EmbeddedReader, PlacedReader
from tests.support.simulators import (
    KINDS,
    RECORD,
    AnyScorer,
    biased,
    correlation,
    listing,
    made,
    reading,
    score_of,
    true_level,
)

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_has_correlation_1_and_explains_all(kind: str) -> None:
    score = score_of(made(kind, true_level, max_level=9))
    found = simulation_metrics(score, np.random.default_rng(0), n_resamples=20)
    for estimate in (found.ev_correlation, found.rsquared, found.absolute_dev_explained):
        assert estimate.value == pytest.approx(1.0)
    assert (score.kind, score.trials, len(score.simulations)) == ("simulation", (), 24)
    assert [s.true for s in score.simulations] == [
        tuple(e.activations.tolist()) for e in (*RECORD.test, *RECORD.non_activating.test)
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("calibration", ["none", "linear", "percentile"])
def test_constant_predictions_have_no_correlation_and_say_why(kind: str, calibration: str) -> None:
    found = correlation(score_of(made(kind, lambda tokens, i: 3, calibration=calibration)))
    assert found.value is None
    assert found.reason is not None
    assert "predicted ones are all equal" in found.reason


@pytest.mark.parametrize("kind", KINDS)
def test_levels_of_another_feature_have_a_correlation_near_zero(kind: str) -> None:
    found = correlation(score_of(made(kind, lambda tokens, i: 9 if tokens[i] == " dog" else 0)))
    assert found.value is not None
    assert abs(found.value) < 0.15


def test_a_half_right_simulator_has_the_correlation_that_numpy_finds() -> None:
    def level(tokens: Sequence[str], i: int) -> float:
        return min(9, true_level(tokens, i) / 2 + (len(tokens[i]) % 3))

    score = score_of(made("listing", level))
    true = np.concatenate([s.true for s in score.simulations])
    predicted = np.concatenate([s.predicted for s in score.simulations if s.predicted is not None])
    assert correlation(score).value == pytest.approx(np.corrcoef(true, predicted)[0, 1])
    assert np.allclose(predicted, [level(t, i) * 0.9 for e in (*RECORD.test, *RECORD.non_activating.test)
                                   for t in [e.str_tokens] for i in range(len(t))])  # fmt: skip


# ------------------------------------------------------------------ expected levels


@pytest.mark.parametrize(
    ("probabilities", "level"),
    [
        ({"0": 0.5, "10": 0.25, "x": 0.25}, 10 / 3),
        ({"0": 0.5, "3": 0.2, "10": 0.1, " 7": 0.1, "foo": 0.1}, 2.0),
        ({"4": 1e-9}, 4.0),
        ({"11": 0.5, "-1": 0.2, "5.0": 0.1, "05": 0.1}, None),
        ({}, None),
    ],
)
def test_expected_level(probabilities: dict[str, float], level: float | None) -> None:
    assert expected_level(probabilities) == (None if level is None else pytest.approx(level))


def test_digits_that_are_tokens_of_their_own_leave_levels_up_to_9() -> None:
    assert expected_level({"1": 0.5, "9": 0.5, "10": 0.3}, max_level=9) == 5.0


# ------------------------------------------------------------------ what comes back is read strictly


def reply(*entries: tuple[Any, Any]) -> str:
    return json.dumps({"tokens": [{"token": token, "level": level} for token, level in entries]})


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (reply((" a", 0)), "wrong_length"),
        (reply((" a", 0), (" cat", 7), (" b", 0)), "wrong_length"),
        (reply((" a", 0), (" dog", 7)), "other_tokens"),
        (reply((" a", 0), (3, 7)), "other_tokens"),
        (reply((" a", 0), (" cat", "high")), "not_numbers"),
        (reply((" a", 0), (" cat", True)), "not_numbers"),
        (reply((" a", 0), (" cat", None)), "not_numbers"),
        (reply((" a", 0), (" cat", 11)), "out_of_range"),
        (reply((" a", -1), (" cat", 7)), "out_of_range"),
        (reply((" a", 0), (" cat", float("nan"))), "not_numbers"),
        (reply((" a", 0), (" cat", float("inf"))), "not_numbers"),
        ("I cannot say.", "unparsable"),
        ("", "unparsable"),
        ('{"tokens": [{"token": " a", "level": 0}, {"tok', "unparsable"),
        ("[0, 7]", "unparsable"),
        ('[{"token": " a"}, {"token": " cat"}]', "unparsable"),
        ("[" * 100_000, "unparsable"),
    ],
)
def test_a_reply_that_is_not_a_level_for_each_token_is_a_typed_failure(text: str, kind: str) -> None:
    found = parse_levels(Response(text, Usage(), "stop", "m"), [" a", " cat"], 10)
    assert isinstance(found, Failure)
    assert (found.stage, found.kind, found.raw) == ("score", kind, text)
    score = score_of(SimulationScorer(client=ScriptedClient([text])), one_window())
    assert [(s.predicted, s.failure and s.failure.kind) for s in score.simulations] == [(None, kind)]
    assert correlation(score).n_failed == 1


@pytest.mark.parametrize(
    "text",
    [
        reply((" a", 0), (" cat", 7.5)),
        reply(("a", 0), ("cat ", 7.5)),
        f"Sure:\n```json\n{reply((' a', 0), (' cat', 7.5))}\n```",
        '[{"token": " a", "level": 0, "why": "no cat"}, {"token": " cat", "level": 7.5}]',
    ],
)
def test_prose_around_the_list_and_spaces_within_are_forgiven(text: str) -> None:
    assert parse_levels(Response(text, Usage(), "stop", "m"), [" a", " cat"], 10) == (0.0, 7.5)


def one_window() -> FeatureRecord:
    window = make_example([" a", " cat"], [0, 8])
    return make_evidence(train=[replace(window, document=5)], test=[window])


def test_a_reply_that_was_cut_off_says_what_to_raise() -> None:
    cut = Response('{"tokens": [{"tok', Usage(9, 9, 1), "length", "m")
    (trial,) = score_of(SimulationScorer(client=ScriptedClient([cut])), one_window()).simulations
    assert trial.failure is not None
    assert "raise scorers.simulation.spare_tokens" in trial.failure.message


def test_what_the_server_refuses_is_a_failure_of_its_window_alone() -> None:
    def answer(request: Request) -> Any:
        return ServerError("503") if " dog" in request.messages[-1].content else listing(true_level)(request)

    score = score_of(SimulationScorer(client=ScriptedClient(answer)))
    windows = [*RECORD.test, *RECORD.non_activating.test]
    failed = [" dog" in window.str_tokens for window in windows]
    assert [s.failure is not None for s in score.simulations] == failed
    assert 0 < sum(failed) < len(failed)
    assert {s.failure.kind for s in score.simulations if s.failure} == {"server_error"}
    assert score.usage.n_requests == len(windows)


def test_examples_without_strings_are_failures_that_nobody_is_asked_about() -> None:
    client = ScriptedClient([])
    window = replace(make_example([" a", " cat"], [0, 8]), str_tokens=())
    (trial,) = score_of(SimulationScorer(client=client), make_evidence(train=[window], test=[window])).simulations
    assert trial.failure is not None
    assert (trial.failure.kind, client.requests) == ("no_text", [])


# ------------------------------------------------------------------ places of levels in a text


HOSTILE = ("\n", "\t", "", " ", "?", "\t?", "<end>", "\r\n", "a\tb", " $x", "\u00e9", "\ufffd", "7")


def test_the_embedded_model_is_asked_where_the_question_marks_stand() -> None:
    """Whatever the tokens are, each level has a token of its own in a byte-level vocabulary."""
    window = make_example(HOSTILE, [1.0, *[0.0] * (len(HOSTILE) - 1)])
    scorer = AllAtOnceSimulationScorer(reader=EmbeddedReader(), top_logprobs=6000)
    (trial,) = score_of(scorer, make_evidence(train=[window], test=[window])).simulations
    assert trial.failure is None
    assert trial.predicted is not None
    assert all(0 < level < 1 for level in trial.predicted)  # of the largest activation, which is 1


def test_a_level_that_its_tokenizer_joins_with_the_tab_is_a_failure() -> None:
    import re

    joined = re.compile(r"[^\n\w]?[^\W\d]+|\d+|\s|[^\w\s]")  # as cl100k and Llama 3 split
    placed = reading(lambda tokens, i: 1, "unknown")
    scorer = AllAtOnceSimulationScorer(reader=PlacedReader(placed, joined), unknown="unknown")
    (trial,) = score_of(scorer, one_window()).simulations
    assert trial.failure is not None
    assert trial.failure.kind == "not_aligned"
    apart = AllAtOnceSimulationScorer(reader=PlacedReader(reading(lambda tokens, i: 1), joined))
    assert score_of(apart, one_window()).simulations[0].failure is None
    original = AllAtOnceSimulationScorer(reader=PlacedReader(placed), unknown="unknown")
    assert score_of(original, one_window()).simulations[0].predicted == pytest.approx((0.8, 0.8))


@pytest.mark.parametrize("kind", ["all_at_once", "token_by_token"])
def test_no_level_among_the_alternatives_is_a_failure_and_no_zero(kind: str) -> None:
    def nothing(request: Request) -> Response:
        return Response("x", Usage(1, 1, 1), "length", "m", (TokenLogprob("x", -0.1, {"x": -0.1, " 3": -3.0}),))

    scorer: AnyScorer
    if kind == "all_at_once":
        scorer = AllAtOnceSimulationScorer(
            reader=PlacedReader(lambda text: {place: {"x": 1.0} for place in range(9999)})
        )
    else:
        scorer = TokenByTokenSimulationScorer(client=ScriptedClient(nothing))
    (trial,) = score_of(scorer, one_window()).simulations
    assert trial.predicted is None
    assert trial.failure is not None
    assert trial.failure.kind == "no_level"


def test_a_server_without_log_probabilities_cannot_simulate_token_by_token() -> None:
    scorer = TokenByTokenSimulationScorer(client=ScriptedClient(lambda request: "7"))
    (trial,) = score_of(scorer, one_window()).simulations
    assert trial.failure is not None
    assert trial.failure.kind == "no_logprobs"
    assert "use scorer simulation" in trial.failure.message


def test_a_reader_that_refuses_is_a_failure() -> None:
    def refuse(text: str) -> ClientError:
        return RefusedRequestError("no prompt log-probabilities here")

    (trial,) = score_of(AllAtOnceSimulationScorer(reader=PlacedReader(refuse)), one_window()).simulations
    assert trial.failure is not None
    assert trial.failure.kind == "refused_request"


# ------------------------------------------------------------------ the same at any concurrency; word for word


@pytest.mark.parametrize("calibration", ["none", "linear"])
def test_concurrency_changes_nothing(calibration: Any) -> None:
    def client(max_concurrency: int) -> LimitedClient:
        return LimitedClient(ScriptedClient(listing(biased), latency_seconds=0.001), max_concurrency=max_concurrency)

    scores = [score_of(SimulationScorer(client=client(n), calibration=calibration)) for n in (1, 3, 100)]
    assert scores[0] == scores[1] == scores[2]


def test_the_requests_are_word_for_word_these() -> None:
    tokens = ["the", " cat", "\n", " sat", "\t", "\u00e9"]
    chat = ScriptedClient([])
    assert_golden(SimulationScorer(client=chat).request("cats", tokens), GOLDEN / "simulation.txt")
    one = TokenByTokenSimulationScorer(client=chat).request("cats", tokens)
    assert_golden(one, GOLDEN / "simulation_token_by_token.txt")
    text, places = AllAtOnceSimulationScorer(reader=PlacedReader(lambda text: {})).request("cats", tokens)
    golden = GOLDEN / "simulation_all_at_once.txt"
    assert f"{text.text}\n======== {text.top_logprobs}\n" == (
        golden.read_text(encoding="utf-8") if golden.is_file() else ""
    ), text.text
    assert {text.text[place] for place in places} == {"?"}
    assert len(places) == len(tokens)


@pytest.mark.parametrize(
    ("scorer", "settings", "message"),
    [
        ("listing", {"n_windows": 1}, "scorers.simulation.n_windows=1"),
        ("listing", {"n_calibration": 0}, "scorers.simulation.n_calibration=0"),
        ("listing", {"max_level": 5}, "scorers.simulation.max_level=5; give 9 or 10"),
        ("all_at_once", {"unknown": " "}, "scorers.simulation_all_at_once.unknown=' '"),
        ("all_at_once", {"top_logprobs": 0}, "scorers.simulation_all_at_once.top_logprobs=0"),
        ("token_by_token", {"top_logprobs": 1}, "scorers.simulation_token_by_token.top_logprobs=1"),
    ],
)
def test_wrong_settings_are_refused(scorer: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(scorer, true_level, **settings)
