"""How judges and scorers read the replies of language models: every sample of replies.json, and others of each kind."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.prompting.reading import FAILURE, cases, outcome, outcome_of

HANG_SECONDS = 60
SIMULATED = ("the", " cat", " sat")


@pytest.mark.parametrize("case", [case for case in cases() if case["kind"] != "hang"], ids=lambda case: case["id"])
def test_a_sample_is_read_rightly(case: dict[str, Any]) -> None:
    assert outcome_of(case) in [case["expected"], *case.get("also_right", [])]


@pytest.mark.parametrize("case", [case for case in cases() if case["kind"] == "hang"], ids=lambda case: case["id"])
def test_a_sample_that_hung_is_read_in_a_process_with_a_limit(case: dict[str, Any]) -> None:
    code = (
        "import json, sys; from tests.prompting.reading import outcome_of; print(outcome_of(json.loads(sys.argv[1])))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, json.dumps(case)], capture_output=True, text=True, timeout=HANG_SECONDS, check=True
    )
    assert found.stdout.strip() == case["expected"]


def test_the_samples_are_all_there() -> None:
    kinds = [case["kind"] for case in cases()]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"misread": 42, "hang": 3, "refused": 33, "guard": 55}


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        # another key, another list, a what-if, a format, a draft, a denial, other words, a confidence
        ('{"verdicts": [1, 0, 1], "confidences": [1, 1, 1]}', [1, 0, 1]),
        ('{"inverted": [0, 1, 0], "verdicts": [1, 0, 1]}', [1, 0, 1]),
        ('{"verdicts": [1, 0, 1]}\n\nOn a looser reading it would be {"verdicts": [1, 1, 1]}.', [1, 0, 1]),
        ('The expected format: {"verdicts": [1, 0, 1]}. I cannot decide.', FAILURE),
        ('Draft: {"verdicts": [1, 0, 1]}', FAILURE),
        ("For example:\n\n[1, 0, 1]", FAILURE),
        ("I would not say [1, 0, 1]", FAILURE),
        ("These do not fit: [1, 0, 1]", FAILURE),
        ("Confidence: [1, 1, 0]", FAILURE),
        ("Excerpts: [1, 0, 1]", FAILURE),
        ('{"non_matching": [1, 0, 1]}', FAILURE),
        ('{"example": {"verdicts": [1, 0, 1]}}', FAILURE),
        ("[1, 0, 1]?", FAILURE),
        ("[1, 1, 1]? No: [0, 0, 0]", FAILURE),
        ("[1, 0, 1] is what a careless reader says", FAILURE),
        # lists that disagree, and which is final
        ("[1, 0, 1]\n\n[1, 1, 1]", FAILURE),
        ("[1, 0, 1]\nLenient: [1, 1, 1]", FAILURE),
        ("[1, 0, 1]\n\n[1, 0, 1]", [1, 0, 1]),
        ("[1, 1, 1]\nFinal answer: [1, 0, 1]", [1, 0, 1]),
        ("[1, 0, 1]\nFinal answer: [1, 0]", FAILURE),
        ('Strict:\n{"verdicts": [1, 0, 0]}\nLenient:\n{"verdicts": [1, 1, 1]}', FAILURE),
        ('{"verdicts": [1, 1, 1]}\nWait.\n{"verdicts": [1, 0, 1]}', [1, 0, 1]),
        # entries that are no verdicts
        ("[1, 0, 1, \"unsure\"]", FAILURE),
        ("[yes, no, mostly yes]", FAILURE),
        ('{"verdicts": [1, 0, "1 or 0"]}', FAILURE),
        ('{"verdicts": [1, 0, 1.5]}', FAILURE),
        ('{"verdicts": [1, 0, 1e999]}', FAILURE),
        ('{"verdicts": [1, 0, -1]}', FAILURE),
        ('{"verdicts": [1, 0, ' + "1" * 5000 + "]}", FAILURE),
        # readable
        ("1) yes\n2) no\n3) yes", [1, 0, 1]),
        ("Here are the verdicts for the 3 excerpts:\n\n- **Excerpt 1**: Yes\n- **Excerpt 2**: No\n- **Excerpt 3**: Yes",
         [1, 0, 1]),
        ("1: Yes - a dog barks\n2: No (a cat)\n3: Yes, it says puppy", [1, 0, 1]),
        ("1. Yes\n2. No\n3. Yes\nWait, 2 is yes.", FAILURE),
        ("1. No dogs\n2. No\n3. Yes", FAILURE),
        ("2. No\n1. Yes\n3. Yes", [1, 0, 1]),
        ("Draft:\n1. Yes\n2. No\n3. Yes", FAILURE),
        ('{"Excerpt 1": "Yes", "Excerpt 2": "No", "Excerpt 3": "Yes"}', [1, 0, 1]),
        ('{"verdicts": {"1": 1, "2": 0, "3": true}}', [1, 0, 1]),
        ('{"verdicts": [{"id": 2, "fits": 0}, {"id": 1, "fits": 1}, {"id": 3, "fits": 1}]}', [1, 0, 1]),
        ('[{"verdict": "yes", "why": "dog"}, {"verdict": "no", "why": ""}, {"verdict": "yes", "why": "2"}]', FAILURE),
        ('[{"verdict": "yes", "why": "dog"}, {"verdict": "no", "why": ""}, {"verdict": "yes", "why": "x"}]', [1, 0, 1]),
        ('[{"excerpt": 1, "mismatch": 1}, {"excerpt": 2, "mismatch": 0}, {"excerpt": 3, "mismatch": 0}]', FAILURE),
        ('{"answer": {"verdicts": [1, 0, 1]}}', [1, 0, 1]),
        ('[{"verdicts": [1, 0, 1]}]', [1, 0, 1]),
        ('{"verdicts": "[1, 0, 1]"}', FAILURE),
        ('{"verdicts": "1, 0, 1"}', [1, 0, 1]),
        ("{verdicts: [1, 0, 1]}", [1, 0, 1]),
        ('{"reason": "the "dog" barks", "verdicts": [1, 0, 1]}', [1, 0, 1]),
        ('{"reason": 5" x "4, "verdicts": [1, 0, 1]}', [1, 0, 1]),
        ('{"reason": 5" x "4, "wrong": [1, 0, 1]}', FAILURE),
        ("Verdicts: 1, 0, 1", [1, 0, 1]),
        ("So the answer is [1, 0, 1].", [1, 0, 1]),
        ("**[1, 0, 1]**", [1, 0, 1]),
        ('```\n{"verdicts": [1, 0, 1]}\n```\nExcerpt 2 is about [cats], not [0, 0, 0].', [1, 0, 1]),
        ("[٠, ١, ١]", [0, 1, 1]),  # noqa: RUF001
        ("[𝟏, 𝟎, 𝟏]", [1, 0, 1]),  # noqa: RUF001
        ("<think>[0, 0, 0]</think>\n[1, 0, 1]", [1, 0, 1]),
    ],
)  # fmt: skip
def test_other_replies_about_three_excerpts(reply: str, expected: object) -> None:
    assert outcome("detection", reply, n=3) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"verdicts": [1, 0, 1]}', [1, 0, 1]),
        ('{"verdicts": [1, 0, 1]} and then', [1, 0, 1]),
        ('```json\n{"verdicts": [1, 0, 1]}\n```\nExcerpt', [1, 0, 1]),
        ('{"verdicts": [1, 0, 1]', FAILURE),
        ("[1, 0, 1]", FAILURE),
        ("Final: [1, 0, 1]\nas", FAILURE),
        ("1. yes\n2. no\n3. yes", FAILURE),
        ('Attempt: {"verdicts": [1, 0, 1]}\nbut', FAILURE),
        ('<reasoning>maybe {"verdicts": [1, 0, 1]}?', FAILURE),
        ("1, 0, 1", FAILURE),
    ],
)
@pytest.mark.parametrize("reason", ["length", "max_tokens", "content_filter"])
def test_of_a_reply_that_was_cut_off_only_the_closed_object_counts(reply: str, expected: object, reason: str) -> None:
    assert outcome("detection", reply, reason, n=3) == expected


@pytest.mark.parametrize(
    ("reply", "n", "expected"),
    [
        ("Yes.", 1, [1]), ("Answer: no", 1, [0]), ("1", 1, [1]), ("(1)", 1, [1]), ("2", 1, FAILURE),
        ("As [1] shows, no.", 1, FAILURE), ('{"verdicts": 1}', 1, [1]), ("Numbers: [0, 1]", 2, FAILURE),
        ("Texts: 0, 1", 2, FAILURE), ('{"verdicts": []}', 2, FAILURE), ("[]", 1, FAILURE),
    ],
)  # fmt: skip
def test_few_excerpts(reply: str, n: int, expected: object) -> None:
    assert outcome("detection", reply, n=n) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Texts 2, 5", [2, 5]), ("Answer: 2 and 5", [2, 5]), ("2–5", [2, 3, 4, 5]), ("1-3, 7", [1, 2, 3, 7]),
        ("[\n  2,\n  5\n]", [2, 5]), ("- 2\n- 5\n- 9", [2, 5, 9]), ("#2, #5", [2, 5]), ("2;5;9", [2, 5, 9]),
        ('{"texts": [2, 5]}', [2, 5]), ('{"not_firing": [2, 5]}', FAILURE), ("[]", FAILURE), ("5-2", FAILURE),
        ("None of the texts", []), ("none of them is certain, but 3", FAILURE), ("**None**", []), ("Answer: none", []),
        ("2, 5\nNone", FAILURE), ("2, 5\n7, 8", FAILURE), ("2, 5\nFinal answer: 7, 8", [7, 8]), ("15", FAILURE),
        ("-2", FAILURE), ("2.5", FAILURE), ("Not 2, 5", FAILURE), ("All but 3", FAILURE), ("2, 5?", FAILURE),
        ("2, 5, and perhaps 9", FAILURE), ("2, 5\n[1]", FAILURE), ("2, " + "9" * 4400, FAILURE), ("２, ５", [2, 5]),  # noqa: RUF001
        ("Sure! I read all 14 of them twice.\n\n3, 8", [3, 8]), ("3 of 14 texts: 1, 2, 3", [1, 2, 3]), ("", FAILURE),
    ],
)  # fmt: skip
def test_other_lists_of_numbers(reply: str, expected: object) -> None:
    assert outcome("saebench", reply, n=14) == expected


@pytest.mark.parametrize("reply", ["2, 5", "None", "[2, 5]", '{"texts": [2, 5]}', "Final: 2, 5\nas"])
def test_numbers_that_were_cut_off_are_none(reply: str) -> None:
    assert outcome("saebench", reply, "length", n=14) == FAILURE


@pytest.mark.parametrize(
    ("reply", "reason", "expected"),
    [
        ('{"reason": "choice: 4", "choice": 2}', "stop", 2), ('{"choice": 2, "runner_up": 4}', "stop", 2),
        ("Excerpt 2 or excerpt 3", "stop", FAILURE), ("None of the 5", "stop", FAILURE), ("3 of them", "stop", FAILURE),
        ("It cannot be 3", "stop", FAILURE), ("−3", "stop", FAILURE), ("2.5", "stop", FAILURE), ("3?", "stop", FAILURE),
        ("The answer is 3.", "stop", 3), ("**Excerpt 3**", "stop", 3), ("Choice: 3", "stop", 3), ("#3", "stop", 3),
        ('{"choice": {"excerpt": 3}}', "stop", FAILURE), ('{"choice": -3}', "stop", FAILURE), ("[3]", "stop", 3),
        ('{"choice": "-3"}', "stop", FAILURE), ('{"choice": "2 or 3"}', "stop", FAILURE), ("", "stop", FAILURE),
        ('{"choice": true}', "stop", FAILURE), ('{"choice": 3e400}', "stop", FAILURE), ("Excerpt 3", "length", FAILURE),
        ('{"choice": 3} as', "length", 3), ('{"choice": 3', "length", FAILURE), ('{"choice": 3', "stop", 3),
        ("Excerpt 2\nExcerpt 4", "stop", FAILURE), ("2\nFinal: 4", "stop", 4), ("Not 3", "stop", FAILURE),
        ('e.g. {"choice": 3}', "stop", FAILURE), ('{"choice": ' + "1" * 100_000 + "}", "stop", FAILURE),
        ("9" * 100_000, "stop", FAILURE), ("Excerpt " + "9" * 100_000, "stop", FAILURE),
    ],
)  # fmt: skip
def test_other_choices(reply: str, reason: str, expected: object) -> None:
    assert outcome("choice", reply, reason) == expected


def listed(*levels: object) -> str:
    return json.dumps([{"token": token, "level": level} for token, level in zip(SIMULATED, levels, strict=True)])


@pytest.mark.parametrize(
    ("reply", "reason", "expected"),
    [
        (f'{{"tokens": {listed("1.0", "9", 0)}}}', "stop", [1, 9, 0]),
        (f'{{"tokens": {listed("high", "9", 0)}}}', "stop", FAILURE),
        (f'{{"tokens": {listed(0, None, 0)}}}', "stop", FAILURE),
        (f'{{"tokens": {listed(0, [9], 0)}}}', "stop", FAILURE),
        (f'{{"tokens": {listed(0, "9" * 5000, 0)}}}', "stop", FAILURE),
        (f"Levels [0 to 10]:\n{listed(0, 9, 0)}\nsee [1]", "stop", [0, 9, 0]),
        (f"{listed(0, 9, 0)}\n\n{listed(0, 0, 0)}", "stop", FAILURE),
        (f"{listed(1, 1, 1)}\nFinal: {listed(0, 9, 0)}", "stop", [0, 9, 0]),
        (f"For example: {listed(0, 9, 0)}", "stop", FAILURE),
        (f'{{"tokens": {listed(0, 9, 0)}}} and', "length", [0, 9, 0]),
        (listed(0, 9, 0), "length", FAILURE),
        (f'{{"tokens": {listed(0, 9, 0)}, "also": [1', "length", FAILURE),
    ],
)
def test_other_simulations(reply: str, reason: str, expected: object) -> None:
    assert outcome("simulation", reply, reason, tokens=SIMULATED) == expected


@pytest.mark.parametrize(
    ("reply", "reason", "expected"),
    [
        ("Here are the texts:\n1) a\n\n2) \"b\"", "stop", ["a", "b"]),
        ("1. a\n3. b", "stop", FAILURE),
        ("1. a\n2. b\n3. c", "stop", FAILURE),
        ("1. a\n2. b\nI hope they help", "stop", FAILURE),
        ('{"note": ["x", "y"], "texts": ["a", "b",]}', "stop", ["a", "b"]),
        ('{"texts": ["a", "b"]}\n\nSee also ["c", "d"].', "stop", ["a", "b"]),
        ('["a", "b"]\n\n["c", "d"]', "stop", FAILURE),
        ('Do not write ["a", "b"]', "stop", FAILURE),
        ('{"texts": ["he said "no" to it", "b"]}', "stop", ['he said "no" to it', "b"]),
        ('{"texts": ["a {", "b \\"]\\" }"]}', "stop", ["a {", 'b "]" }']),
        ('{"texts": [1, 2]}', "stop", FAILURE),
        ('{"texts": ["a", "b"]} Shall', "length", ["a", "b"]),
        ('["a", "b"]', "length", FAILURE),
        ("1. a\n2. b", "length", FAILURE),
    ],
)  # fmt: skip
def test_other_texts(reply: str, reason: str, expected: object) -> None:
    assert outcome("generation", reply, reason, n=2) == expected
