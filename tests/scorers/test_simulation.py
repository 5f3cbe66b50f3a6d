"""Simulation: who says the truth has correlation 1, replies are read strictly, calibration sees no test example."""

import asyncio
import json
import math
from collections.abc import Callable, Mapping, Sequence
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
from sae_auto_interp.scorers._calibration import linear, percentile
from sae_auto_interp.scorers._levels import expected_level
from sae_auto_interp.scorers.simulation import parse_levels
from sae_auto_interp.types import (
    Estimate,
    Example,
    Failure,
    FeatureRecord,
    Request,
    Response,
    Score,
    TokenLogprob,
    Usage,
)
from tests.support.evidence import assert_golden, explanation_of, make_evidence, make_example, planted_record
from tests.support.prompt_readers import EmbeddedReader, PlacedReader

GOLDEN = Path(__file__).parent / "golden"
AnyScorer = SimulationScorer | AllAtOnceSimulationScorer | TokenByTokenSimulationScorer
Level = Callable[[Sequence[str], int], float]
"""(tokens of a window, place) -> the level that a simulator gives."""


def fires(tokens: Sequence[str], i: int) -> bool:
    return tokens[i] == " cat"


def numbered(examples: Sequence[Example]) -> tuple[Example, ...]:
    """Each window behind a token of its own, so that how it begins tells which it is."""
    return tuple(
        make_example([f"#{e.document}", *e.str_tokens], [0, *e.activations.tolist()], document=e.document)
        for e in examples
    )


PLANTED = planted_record(fires, n=12)
RECORD = make_evidence(
    numbered(PLANTED.train),
    numbered(PLANTED.test),
    numbered(PLANTED.non_activating.explain),
    numbered(PLANTED.non_activating.test),
)
TRUTH = {
    e.str_tokens: [float(a) for a in e.activations] for e in (*RECORD.test, *RECORD.non_activating.test, *RECORD.train,
                                                              *RECORD.non_activating.explain)
}  # fmt: skip

BEGINNINGS = {"".join(tokens[: i + 1]): (tokens, i) for tokens in TRUTH for i in range(len(tokens))}


def true_level(tokens: Sequence[str], i: int) -> float:
    """The strongest training activation is 9."""
    return TRUTH[tuple(tokens)][i]


def listing(level: Level) -> Callable[[Request], str]:
    """A chat model that lists levels."""

    def answer(request: Request) -> str:
        tokens = json.loads(request.messages[-1].content.partition(" tokens: ")[2])
        return json.dumps({"tokens": [{"token": t, "level": level(tokens, i)} for i, t in enumerate(tokens)]})

    return answer


def reading(level: Level, mark: str = "?") -> Callable[[str], Mapping[int, Mapping[str, float]]]:
    """A model that puts all it gives to numbers on the two levels around the one that it means."""

    def placed(text: str) -> dict[int, dict[str, float]]:
        offset = text.rindex("<start>\n") + len("<start>\n")
        lines = text[offset : text.rindex("<end>")].removesuffix("\n").split("\n")
        tokens = [line.removesuffix(f"\t{mark}").replace("\\n", "\n") for line in lines]
        found: dict[int, dict[str, float]] = {}
        for i, line in enumerate(lines):
            found[offset + len(line) - len(mark)] = spread(level(tokens, i))
            offset += len(line) + 1
        return found

    return placed


def spread(level: float) -> dict[str, float]:
    """Probabilities whose expected level is `level`, most of the mass on what is no level."""
    low, share = int(level), level - int(level)
    weights = {str(low): 0.3 * (1 - share), str(low + 1): 0.3 * share, " 7": 0.5, "foo": 0.2}
    return {text: p for text, p in weights.items() if p > 0}


def answering(level: Level) -> Callable[[Request], Response]:
    """A chat model that answers for one token. It finds the window by how it begins."""

    def answer(request: Request) -> Response:
        shown = json.loads(request.messages[-1].content.partition("Text: ")[2].partition("\nLast token: ")[0])
        window, i = BEGINNINGS[shown]
        alternatives = {text: math.log(p) for text, p in spread(level(window, i)).items()}
        return Response("0", Usage(50, 1, 1), "length", "m", (TokenLogprob("0", -1.0, alternatives),))

    return answer


def made(kind: str, level: Level, **settings: Any) -> AnyScorer:
    if kind == "listing":
        return SimulationScorer(client=ScriptedClient(listing(level)), **settings)
    if kind == "all_at_once":
        return AllAtOnceSimulationScorer(reader=PlacedReader(reading(level)), **settings)
    settings.setdefault("n_windows", None)
    return TokenByTokenSimulationScorer(client=ScriptedClient(answering(level)), **settings)


KINDS = ["listing", "all_at_once", "token_by_token"]


def score_of(scorer: AnyScorer, record: FeatureRecord = RECORD) -> Score:
    return asyncio.run(scorer.score(record, explanation_of(record), "e1"))


def correlation(score: Score) -> Estimate:
    return simulation_metrics(score, np.random.default_rng(0), n_resamples=20).ev_correlation


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_has_correlation_1_and_explains_all(kind: str) -> None:
    score = score_of(made(kind, true_level, max_level=9))
    found = simulation_metrics(score, np.random.default_rng(0), n_resamples=20)
    for estimate in (found.ev_correlation, found.rsquared, found.absolute_dev_explained):
        assert estimate.value == pytest.approx(1.0)
    assert (score.kind, score.trials, len(score.simulations)) == ("simulation", (), 24)
    assert [s.true for s in score.simulations] == [
        tuple(TRUTH[e.str_tokens]) for e in (*RECORD.test, *RECORD.non_activating.test)
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
        (reply((" a", 0), (" cat", "7")), "not_numbers"),
        (reply((" a", 0), (" cat", True)), "not_numbers"),
        (reply((" a", 0), (" cat", None)), "not_numbers"),
        (reply((" a", 0), (" cat", 11)), "out_of_range"),
        (reply((" a", -1), (" cat", 7)), "out_of_range"),
        (reply((" a", 0), (" cat", float("nan"))), "out_of_range"),
        (reply((" a", 0), (" cat", float("inf"))), "out_of_range"),
        ("I cannot say.", "unparsable"),
        ("", "unparsable"),
        ('{"tokens": [{"token": " a", "level": 0}, {"tok', "unparsable"),
        ("[0, 7]", "unparsable"),
        ('[{"token": " a"}, {"token": " cat"}]', "unparsable"),
        ("[" * 100_000, "unparsable"),
    ],
)
def test_a_reply_that_is_not_a_level_for_each_token_is_a_typed_failure(text: str, kind: str) -> None:
    found = parse_levels(text, [" a", " cat"], 10)
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
    assert parse_levels(text, [" a", " cat"], 10) == (0.0, 7.5)


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


# ------------------------------------------------------------------ which windows, and calibration


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


def biased(tokens: Sequence[str], i: int) -> float:
    """Right in order, wrong in unit and zero."""
    return 2 + true_level(tokens, i) / 3


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
