"""Replies in which something stands where the answer is looked for, and is none: of judges, scorers and explainers."""

import json

import pytest

from sae_auto_interp.explainers._asking import JSON_ANSWER, MARKED_LINE, Reading, answer_schema, explained
from sae_auto_interp.prompting.explanation_replies import NotRead, read_explanation
from sae_auto_interp.prompting.explanations import why_no_explanation
from sae_auto_interp.prompting.marked_lines import marked_line
from sae_auto_interp.types import Explanation, Failure, FeatureId, Message, Request, Response, Usage
from tests.prompting.reading import FAILURE, outcome
from tests.prompting.test_explanation_replies import read

LINES = "1. Yes\n2. No\n3. Yes"
TABLE = "|--|--|\n| 1 | 1 |\n| 2 | 0 |\n| 3 | 1 |"


@pytest.mark.parametrize(
    "heading",
    [
        "Mismatches:", "Excerpts that do not fit", "Does the excerpt contradict the description?", "Confidence",
        "Draft", "If I were strict", "My wrong first attempt:", "### Not matching",
    ],
)  # fmt: skip
def test_lines_under_a_heading_of_something_else_are_no_verdicts(heading: str) -> None:
    assert outcome("detection", f"{heading}\n\n{LINES}", n=3) == FAILURE


@pytest.mark.parametrize(
    "heading",
    [
        "", "Here are the verdicts for the 3 excerpts:", "**Verdicts**", "### Answer", "I read each one twice.",
        "Based on the description, my verdicts are:", "Sure! Here is the evaluation of each excerpt:", "---",
    ],
)  # fmt: skip
def test_lines_under_a_heading_of_verdicts_are_read(heading: str) -> None:
    assert outcome("detection", f"{heading}\n{LINES}", n=3) == [1, 0, 1]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("| # | mismatch |", FAILURE), ("| Excerpt | Does NOT fit |", FAILURE), ("| excerpt | irrelevant? |", FAILURE),
        ("| excerpt | fits |", [1, 0, 1]), ("| # | Matches? |", [1, 0, 1]), ("| # | Yes/No |", [1, 0, 1]),
    ],
)  # fmt: skip
def test_the_column_of_a_table_says_what_it_holds(head: str, expected: object) -> None:
    assert outcome("detection", f"{head}\n{TABLE}", n=3) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('Example output:\n{"verdicts": [1, 0, 1]}', FAILURE),
        ('Your answer should look like this:\n```json\n{"verdicts": [1, 0, 1]}\n```', FAILURE),
        ('Here is an example of how it may look:\n\n{"verdicts": [1, 0, 1]}\n\nI need the excerpts.', FAILURE),
        ('Respond only in this format:\n\n{"verdicts": [1, 0, 1]}', FAILURE),
        ('The opposite would be:\n{"verdicts": [1, 0, 1]}', FAILURE),
        ('{"final": [1, 0, 1], "answer": [0, 0, 0]}', FAILURE),
        ('{"verdicts": [1, 0, 1', FAILURE),
        ("[1, 0, 1...]", FAILURE),
        ("[1, 0, 1", FAILURE),
        ("Verdicts: [1, 0, 1", FAILURE),
        ('Example:\n{"verdicts": [0, 0, 0]}\n\nAnswer:\n{"verdicts": [1, 0, 1]}', [1, 0, 1]),
        ('{"verdicts": [1, /* a cat */ 0, 1]}', [1, 0, 1]),
        ('{"verdicts": [1, 0, 1], /* draft */ "verdicts_final": [1, 1, 1]}', [1, 0, 1]),
        ('["/* no comment", "b", "c"]\n{"verdicts": [1, 0, 1]}', [1, 0, 1]),
    ],
)
def test_a_value_that_is_no_answer_is_not_read_again_as_text(reply: str, expected: object) -> None:
    assert outcome("detection", reply, n=3) == expected


@pytest.mark.parametrize(("reply", "expected"), [("1. 0", FAILURE), ("0. 1", FAILURE), ("1 0", [1, 0])])
def test_a_number_with_a_stop_numbers_what_follows(reply: str, expected: object) -> None:
    assert outcome("detection", reply, n=2) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("2, 5 and\n9", FAILURE), ("2, 5\nand 9", FAILURE), ("2, 5\nalso: 9", FAILURE), ("2, 5\n9?", FAILURE),
        ("2, 5\nTexts 9", FAILURE), ("2, 5, ...", FAILURE), ("2, …, 9", FAILURE), ("Example: 2, 5", FAILURE),
        ("For example: 2, 3", FAILURE), ("No: 3", FAILURE), ("No texts: 2, 5", FAILURE), ("Texts 2, 5", [2, 5]),
        ("Texts: 2, 5\nConfidence: 8", [2, 5]), ("2, 5\nAnswer: 9", [9]), ("2, 5\nFinal: 9", [9]),
    ],
)  # fmt: skip
def test_half_a_list_of_numbers_is_none(reply: str, expected: object) -> None:
    assert outcome("saebench", reply, n=14) == expected


@pytest.mark.parametrize(
    "reply",
    [
        "1. **a dog**\n2. **a cat**", "**Text 1:** a dog\n**Text 2:** a cat", "1. 'a dog'\n2. 'a cat'",
        '**1.** "a dog"\n**2.** "a cat"',
    ],
)  # fmt: skip
def test_emphasis_and_quotes_of_a_line_are_no_part_of_a_text(reply: str) -> None:
    assert outcome("generation", reply, n=2) == ["a dog", "a cat"]


@pytest.mark.parametrize("reply", ["1. it's a dog's\n2. 2 ** 3", "1. 'a' and 'b'\n2. **a** or **b**"])
def test_signs_within_a_text_stay(reply: str) -> None:
    assert outcome("generation", reply, n=2) == [line[3:] for line in reply.split("\n")]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('Example: {"explanation": "cats"}', None),
        ('Example output:\n```json\n{"explanation": "cats"}\n```', None),
        ('Draft: {"explanation": "cats"}', None),
        ('It is not:\n{"explanation": "cats"}', None),
        ('Good answer: {"explanation": "dogs"}\nBad answer: {"explanation": "cats"}', None),
        ('{"explanation": "dogs"} Note: {"explanation": "cats"} would be wrong.', None),
        ('{"explanation": true}', None),
        ('Draft: {"explanation": "cats"}\nFinal: {"explanation": "dogs"}', "dogs"),
        ('Here is the explanation:\n{"explanation": "dogs"}', "dogs"),
        ('{"explanation": /* short */ "dogs"}', "dogs"),
        ("<answer>[EXPLANATION]: dogs</answer>", "dogs"),
        ("[EXPLANATION]: text in <b>bold</b>", "text in <b>bold</b>"),
    ],
)
def test_an_object_that_is_an_example_is_no_explanation(reply: str, expected: str | None) -> None:
    found = read("simple", reply)
    assert (None if isinstance(found, NotRead) else found) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Please provide the excerpts.", "You haven't provided any excerpts.", "No excerpts were provided.",
        "How can I help you today?", "What would you like me to explain?", "Could you please share the texts?",
        "I'd be happy to help! Please share the texts.", "Okay, let me analyze the tokens.",
        "Désolé, je ne peux pas répondre.", "Desculpe, mas não posso ajudar.", "죄송합니다. 답변할 수 없습니다.",
    ],
)  # fmt: skip
def test_who_speaks_to_the_asker_explains_nothing(text: str) -> None:
    assert why_no_explanation(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "questions such as 'How can I help you?'", "\"How can I help you today?\"", "Please as an opening of requests",
        "please provide as a polite formula", "You as a pronoun of address", "no-shows and other absences",
        "Let's Encrypt", "let me and let us as verbs", "I'm happy statements", "Désolé and other French apologies",
        "questions?", "Could and would in questions", "Let's look statements",
    ],
)  # fmt: skip
def test_phrases_about_such_sentences_are_explanations(text: str) -> None:
    assert why_no_explanation(text) is None


@pytest.mark.parametrize("reply", ["the\t0\ncat\t5", "<start>\nthe\t0\n<end>"])
def test_a_table_that_goes_on_is_no_explanation(reply: str) -> None:
    assert isinstance(read("token_activation_pairs", reply), NotRead)


def test_of_two_clauses_the_one_that_is_said_counts() -> None:
    assert read("saebench", "This neuron never activates on cats. This neuron activates on dogs.") == "dogs"


def explain(text: str, finish_reason: str) -> Explanation | Failure:
    request = Request((Message("user", "?"),), schema=answer_schema(JSON_ANSWER))
    reading = Reading("simple", [], marked_line, MARKED_LINE)
    return explained(FeatureId("m", 1), Response(text, Usage(), finish_reason, "m"), request, reading)


@pytest.mark.parametrize("reason", ["length", "max_tokens", "MAX_TOKENS", "model_length", "content_filter"])
def test_an_explanation_that_was_cut_off_is_a_failure_by_any_name(reason: str) -> None:
    found = explain("[EXPLANATION]: dogs and", reason)
    assert isinstance(found, Failure)
    assert found.kind == "cut_off"
    assert ("raise it" in found.message) == (reason != "content_filter")
    assert isinstance(explain('{"explanation": "dogs"} and', reason), Explanation)


def test_the_words_of_the_schema_are_no_explanation() -> None:
    found = explain(json.dumps({"explanation": JSON_ANSWER}), "stop")
    assert isinstance(found, Failure)
    assert found.kind == "echo"
    assert isinstance(read_explanation('{"explanation": "the sentence"}', marked_line, expected="line"), str)
