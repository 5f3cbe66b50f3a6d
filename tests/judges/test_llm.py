"""The language model as judge: what it is asked, how its reply is read, and what counts as no answer."""

import asyncio
import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.errors import (
    ClientError,
    MalformedReplyError,
    RateLimitedError,
    RefusedRequestError,
    TimeoutExceededError,
    UnknownNameError,
)
from sae_auto_interp.judges import LlmJudge
from sae_auto_interp.judges._numbers import read_numbers
from sae_auto_interp.judges._replies import parse_choice
from sae_auto_interp.judges._verdict_lists import read_verdicts
from sae_auto_interp.types import Failure, Response, ShownExample, TokenLogprob, Usage, Verdict
from tests.support.evidence import assert_golden

GOLDEN = Path(__file__).parent / "golden"
PLAIN = [ShownExample(("The", " cat", "\n", " sat")), ShownExample(("no", " animal")), ShownExample(("a", " tip"))]
MARKED = [
    ShownExample(("The", " cat", " sat"), (False, True, True)),
    ShownExample(("no", " animal"), (True, False)),
]


def said(text: str) -> Response:
    return Response(text, Usage(), "stop", "m")


def verdicts_in(reply: str, n: int) -> list[bool] | None:
    found = read_verdicts(said(reply), n)
    return None if found is None else list(found.matches)


def judge_by(answer: str | Response | ClientError, n: int = 3) -> tuple[list[Verdict | Failure], Usage]:
    judge = LlmJudge(client=ScriptedClient([answer]))
    return asyncio.run(judge.judge("cats", [PLAIN[0]] * n, "detection"))


def test_the_request_for_detection_is_word_for_word_this() -> None:
    request = LlmJudge(client=ScriptedClient([])).request("animals that purr", PLAIN, "detection")
    assert_golden(request, GOLDEN / "detection.txt")


def test_the_request_for_fuzzing_is_word_for_word_this() -> None:
    request = LlmJudge(client=ScriptedClient([])).request("animals that purr", MARKED, "fuzzing")
    assert_golden(request, GOLDEN / "fuzzing.txt")


@pytest.mark.parametrize("task", ["detection", "fuzzing"])
def test_the_prompt_does_not_say_how_many_fit(task: str) -> None:
    """A judge that knew the base rate could beat chance without the explanation."""
    texts = [
        LlmJudge(client=ScriptedClient([])).request("cats", [example] * 4, task).messages[0].content
        for example in (MARKED[0], MARKED[1])
    ]
    assert texts[0] == texts[1]
    assert "from none to all" in texts[0]


def test_delimiters_are_chosen_that_no_excerpt_holds() -> None:
    examples = [ShownExample((" x", " <<", " y"), (True, False, False)), MARKED[0]]
    request = LlmJudge(client=ScriptedClient([])).request("cats", examples, "fuzzing")
    assert "Excerpt 1: [[ x]] << y" in request.messages[1].content
    assert "Excerpt 2: The[[ cat sat]]" in request.messages[1].content
    assert "between [[ and ]]" in request.messages[0].content


def test_the_schema_is_sent_exactly_when_asked_for() -> None:
    client = ScriptedClient([])
    assert LlmJudge(client=client, structured=False).request("cats", PLAIN, "detection").schema is None
    schema = LlmJudge(client=client).request("cats", PLAIN, "detection").schema
    assert schema is not None
    verdicts = json.loads(schema)["properties"]["verdicts"]
    assert (verdicts["minItems"], verdicts["maxItems"], verdicts["items"]["enum"]) == (3, 3, [0, 1])


def test_the_answer_has_room_for_every_verdict() -> None:
    """Also for a model that writes `true, ` and takes two tokens for it."""
    judge = LlmJudge(client=ScriptedClient([]), spare_tokens=10)
    limits = [judge.request("cats", PLAIN[:1] * n, "detection").sampling.max_tokens for n in (1, 2, 50)]
    assert limits[1] - limits[0] >= 4
    assert limits[2] == limits[0] + 49 * (limits[1] - limits[0])
    assert (
        LlmJudge(client=ScriptedClient([])).request("c", PLAIN[:1], "detection").sampling.max_tokens == limits[0] + 20
    )


def test_the_same_batch_gives_the_same_request() -> None:
    judge = LlmJudge(client=ScriptedClient(["[1, 0]"]))
    before = judge.request("cats", MARKED, "fuzzing")
    asyncio.run(judge.judge("dogs", MARKED, "fuzzing"))
    assert judge.request("cats", MARKED, "fuzzing") == before


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("[1,0,1]", [True, False, True]),
        ("Sure: [1, 0, 1]", [True, False, True]),
        ("[True, False, True]", [True, False, True]),
        ("[true,false,true]", [True, False, True]),
        ("[1,\n0,1]", [True, False, True]),
        ('{"verdicts": [1, 0, 1]}', [True, False, True]),
        ('```json\n{"verdicts": [0, 0, 1]}\n```', [False, False, True]),
        ('["yes", "no", "yes"]', [True, False, True]),
        ("Excerpt [2] fits.\n[0, 1, 0]", [False, True, False]),
        ("[1, 1, 1]? No: [0, 0, 0]", None),
        ("[1,0]", None),
        ("[1,0,1,0]", None),
        ("[1,0,maybe]", None),
        ("[1,0,]", None),
        ("[1 0 1]", [True, False, True]),
        ("1,0,1", [True, False, True]),
        ("[]", None),
        ("[2, 0, 1]", None),
        ("[0.9, 0, 1]", None),
        ("all of them fit", None),
        ("", None),
    ],
)
def test_how_a_reply_about_three_examples_is_read(reply: str, expected: list[bool] | None) -> None:
    assert verdicts_in(reply, 3) == expected


def test_a_short_last_batch_is_read_like_any_other() -> None:
    answers, _ = judge_by("[1,0]", n=2)
    assert answers == [Verdict(True), Verdict(False)]


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=9), st.booleans())
def test_every_well_formed_answer_is_read_back(wanted: list[bool], as_numbers: bool) -> None:
    values = [int(value) for value in wanted] if as_numbers else wanted
    assert verdicts_in(json.dumps({"verdicts": values}), len(wanted)) == wanted
    assert verdicts_in(json.dumps(values), len(wanted)) == wanted
    assert verdicts_in(json.dumps({"x": values}), len(wanted)) is None, "it may mean the opposite"
    assert verdicts_in(json.dumps(values, indent=1), len(wanted) + 1) is None


def test_a_wrong_number_of_verdicts_fails_for_all_and_keeps_the_reply() -> None:
    answers, usage = judge_by(Response("[1,0]", Usage(5, 2, 1), "stop", "m"))
    assert answers == [Failure("score", "unparsable", "the reply holds no list of 3 verdicts", "[1,0]")] * 3
    assert usage == Usage(5, 2, 1), "what was paid for is counted"


def test_an_answer_that_was_cut_off_says_so() -> None:
    answers, _ = judge_by(Response("Let me think: [1, 0", Usage(), "length", "m"))
    assert [a.kind for a in answers if isinstance(a, Failure)] == ["unparsable"] * 3
    assert all("cut off; raise the judge's spare_tokens" in a.message for a in answers if isinstance(a, Failure))


def test_who_is_asked_for_more_tokens_is_named_by_its_own_setting() -> None:
    answers, _ = judge_by(MalformedReplyError("the answer is all thinking and no text: raise max_tokens"))
    messages = {answer.message for answer in answers if isinstance(answer, Failure)}
    assert messages == {"the answer is all thinking and no text: raise the judge's spare_tokens"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RateLimitedError("429"), "rate_limited"),
        (TimeoutExceededError("60 s"), "timeout"),
        (RefusedRequestError("401"), "refused_request"),
    ],
)
def test_trouble_with_the_server_fails_for_all_with_its_kind(error: ClientError, kind: str) -> None:
    answers, usage = judge_by(error)
    assert answers == [Failure("score", kind, str(error))] * 3
    assert usage == Usage(n_requests=1)


def test_usage_and_name_are_those_of_the_client() -> None:
    answers, usage = judge_by(Response("[0, 1, 1]", Usage(70, 9, 1), "stop", "m"))
    assert answers == [Verdict(False), Verdict(True), Verdict(True)]
    assert usage == Usage(70, 9, 1)
    assert LlmJudge(client=ScriptedClient([], model="llama")).name == "llm:llama"


def test_a_task_without_a_prompt_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'fuzzing'"):
        LlmJudge(client=ScriptedClient([])).request("cats", PLAIN, "fuzing")


def test_probabilities_come_from_the_tokens_of_the_verdicts() -> None:
    """The golden of PEERS; tokens may be glued to brackets, and thinking before the list may hold digits too."""
    pieces: list[tuple[str, dict[str, float]]] = [("Result 01: ", {})]
    pieces += [("[1", {"[1": -0.1, "[0": -2.4}), (",", {}), (" 0", {" 0": -0.2, " 1": -1.8}), ("]", {})]
    tokens = tuple(TokenLogprob(text, -0.1, alternatives) for text, alternatives in pieces)
    response = Response("Result 01: [1, 0]", Usage(), "stop", "m", tokens)
    judge = LlmJudge(client=ScriptedClient([response]), top_logprobs=20)
    verdicts, _ = asyncio.run(judge.judge("cats", PLAIN[:2], "detection"))
    found = [v.probability for v in verdicts if isinstance(v, Verdict)]
    assert found == pytest.approx([0.9089, 0.1680], abs=5e-5)
    assert judge.request("cats", PLAIN, "detection").top_logprobs == 20


@pytest.mark.parametrize(
    ("alternatives", "probability"), [({"1": -0.5}, 1.0), ({"0": -0.5}, 0.0), ({"yes": -0.1}, None)]
)
def test_a_label_that_is_not_listed_counts_as_nothing(alternatives: dict[str, float], probability: float) -> None:
    tokens = (TokenLogprob("[", 0), TokenLogprob("1", -0.1, alternatives), TokenLogprob("]", 0))
    verdicts, _ = judge_by(Response("[1]", Usage(), "stop", "m", tokens), n=1)
    assert verdicts == [Verdict(True, probability)]


def test_without_log_probabilities_there_is_no_probability() -> None:
    verdicts, _ = judge_by("[1, 0, 1]")
    assert [v.probability for v in verdicts if isinstance(v, Verdict)] == [None] * 3


@pytest.mark.parametrize(
    "pieces",
    [
        ["[", "0", "]"],  # another text
        ["[", "1"],  # a part of it
        ["perhaps ", "[", "1", "]", ", or ", "[", "1", "]"],  # twice: which of them was shown?
        ["[", "\u2581", "1", "]"],  # written otherwise than the text
    ],
)
def test_tokens_of_another_text_than_the_reply_give_no_probability(pieces: list[str]) -> None:
    tokens = tuple(TokenLogprob(piece, -0.1, {piece: -0.1}) for piece in pieces)
    verdicts, _ = judge_by(Response("[1]", Usage(), "stop", "m", tokens), n=1)
    assert verdicts == [Verdict(True, None)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], ["<|eot_id|>"]),
        ([], ["<end_of_turn>", "\n"]),
        (["<think>", "0 or 1?", "</think>", "\n\n"], []),
        (["\n "], [" \n", "</s>"]),
        (["<|channel|>final<|message|>"], ["<|return|>"]),
    ],
)
def test_what_else_the_server_rated_is_left_aside(before: list[str], after: list[str]) -> None:
    listed = {"0": {"0": -0.2, "1": -1.8}, "1": {"1": -0.1, "0": -2.4}}
    pieces = [*before, '{"verdicts": [', "0", ", ", "1", "]}", *after]
    tokens = tuple(TokenLogprob(piece, -0.1, listed.get(piece, {piece: -0.1})) for piece in pieces)
    verdicts, _ = judge_by(Response('{"verdicts": [0, 1]}', Usage(), "stop", "m", tokens), n=2)
    assert [v.probability for v in verdicts if isinstance(v, Verdict)] == pytest.approx([0.167982, 0.908877], abs=1e-6)


@pytest.mark.parametrize(
    "alternatives",
    [
        {"0": 1e308, "1": -0.1},
        {"0": 10**400, "1": -0.1},
        {"0": -(10**400), "1": -0.1},
        {"0": 3.0, "1": 3.0},
        {"0": math.inf, "1": -0.1},
        {"0": math.nan, "1": -0.1},
        {"0": 0.0, "1": 0.0},  # each is one, and both together are none
        {"1": -math.inf, "0": -0.1},  # what was written had no chance
        {"1": -0.1, "0": -2.4, "x": 7.0},
    ],
)
def test_numbers_that_are_no_log_probabilities_give_no_probability(alternatives: dict[str, float]) -> None:
    tokens = (TokenLogprob("[", 0), TokenLogprob("1", -0.1, alternatives), TokenLogprob("]", 0))
    verdicts, _ = judge_by(Response("[1]", Usage(), "stop", "m", tokens), n=1)
    assert verdicts == [Verdict(True, None)]


@pytest.mark.parametrize(
    ("alternatives", "probability"), [({"1": 1e-5, "0": -math.inf}, 1.0), ({"1": -0.1, "0": -800.0}, 1.0)]
)
def test_rounding_and_no_chance_at_all_are_fine(alternatives: dict[str, float], probability: float) -> None:
    tokens = (TokenLogprob("[", 0), TokenLogprob("1", -0.1, alternatives), TokenLogprob("]", 0))
    verdicts, _ = judge_by(Response("[1]", Usage(), "stop", "m", tokens), n=1)
    assert verdicts == [Verdict(True, probability)]


@pytest.mark.parametrize("task", ["intruder", "intruder_explained", "discrimination"])
def test_the_request_for_a_choice_is_word_for_word_this(task: str) -> None:
    explanation = None if task == "intruder" else "animals that purr"
    examples = PLAIN if task == "discrimination" else [*MARKED, ShownExample((" purrs", "!"), (True, False))]
    request = LlmJudge(client=ScriptedClient([])).choice_request(explanation, examples, task)
    assert_golden(request, GOLDEN / f"{task}.txt")


def test_the_request_of_saebench_is_word_for_word_this() -> None:
    request = LlmJudge(client=ScriptedClient([])).request("animals that purr", PLAIN, "saebench")
    assert_golden(request, GOLDEN / "saebench.txt")


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("None", []),
        ("none.", []),
        ("2", [2]),
        ("1, 3", [1, 3]),
        ("1,3 and 4", [1, 3, 4]),
        ("1, 3, and 4.", [1, 3, 4]),
        ("3, 3", [3]),
        ("3, 99", None),
        ("3, 0", None),
        ("On 2 of them:\n1, 4", [1, 4]),
        ("99", None),
        ("I cannot say", None),
        ("", None),
    ],
)
def test_how_a_list_of_numbers_is_read(reply: str, expected: list[int] | None) -> None:
    """Repeated numbers are ignored, as in SAEBench; a number that no excerpt has is no answer."""
    found = read_numbers(said(reply), 4)
    assert (None if found is None else [i for i, fires in enumerate(found.matches, 1) if fires]) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"choice": 3}', 2),
        ("{'choice': \"1\"}", 0),
        ('I compared 2 and 4. {"choice": 4}', 3),
        ('{"choice": 1} no, {"choice": 2}', 1),
        ("3", 2),
        ("Excerpt 5.", 4),
        ("It is 2, excerpt 2", None),
        ("2 or 3", None),
        ('{"choice": 6}', None),
        ("0", None),
        ("2.5", None),
        ("the third", None),
        ("", None),
    ],
)
def test_how_a_choice_of_five_is_read(reply: str, expected: int | None) -> None:
    assert parse_choice(said(reply), 5) == expected


def choose_by(answer: str | ClientError) -> tuple[Sequence[float] | Failure, Usage]:
    judge = LlmJudge(client=ScriptedClient([answer]))
    return asyncio.run(judge.choose("cats", PLAIN, "discrimination"))


def test_the_chosen_example_is_preferred_to_all_others() -> None:
    assert choose_by('{"choice": 2}')[0] == [0.0, 1.0, 0.0]


def test_a_choice_that_cannot_be_read_is_a_failure_that_keeps_the_reply() -> None:
    assert choose_by("the cat")[0] == Failure("score", "unparsable", "the reply holds no number from 1 to 3", "the cat")
    assert choose_by(RateLimitedError("429")) == (Failure("score", "rate_limited", "429"), Usage(n_requests=1))


def test_a_list_of_numbers_becomes_verdicts_without_probabilities() -> None:
    judge = LlmJudge(client=ScriptedClient(["1, 3"]), top_logprobs=20)
    verdicts, _ = asyncio.run(judge.judge("cats", PLAIN, "saebench"))
    assert verdicts == [Verdict(True), Verdict(False), Verdict(True)]
