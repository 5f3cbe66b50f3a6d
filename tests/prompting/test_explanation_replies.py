"""How explainers read replies: the entries of replies.json, samples of the same kinds, and texts made to do harm."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from sae_auto_interp.explainers.max_activation import label
from sae_auto_interp.explainers.saebench import after_activates_on
from sae_auto_interp.explainers.token_activation_pairs import after_prefix
from sae_auto_interp.prompting.explanation_replies import NotRead, Parse, read_explanation
from sae_auto_interp.prompting.marked_lines import MOST_CHARACTERS, first_line, marked_line, plain

ENTRIES = json.loads((Path(__file__).parent / "replies.json").read_text(encoding="utf-8"))
CASES = [entry for entry in ENTRIES if entry["task"].startswith("explainer:")]
PARSERS: dict[str, Parse] = {
    "simple": marked_line,
    "saebench": after_activates_on,
    "token_activation_pairs": after_prefix,
    "max_activation": label,
}


def without_thinking(reply: str) -> str:
    """As the clients leave it."""
    return reply.rpartition("</think>\n")[2]


def read(explainer: str, reply: str, finish_reason: str = "stop") -> str | NotRead:
    return read_explanation(reply, PARSERS[explainer], expected="line", is_cut_off=finish_reason == "length")


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_a_reply_is_read_as_it_was_meant(case: dict[str, Any]) -> None:
    reply = without_thinking(case["reply"])
    found = read(case["task"].partition(":")[2], reply, case.get("finish_reason", "stop"))
    assert ("failure" if isinstance(found, NotRead) else found) in [case["expected"], *case.get("also_right", [])]


@pytest.mark.parametrize(
    "reply",
    [
        "__[EXPLANATION]:__ dogs",
        "*[EXPLANATION]:* dogs",
        "**[EXPLANATION]: dogs**",
        "**[EXPLANATION]**: **dogs**",
        "[EXPLANATION]: `dogs`",
        "> [EXPLANATION]: dogs",
        "1. [EXPLANATION]: dogs",
        "[EXPLANATION]\uff1adogs",
        "<explanation>: dogs",
        "## Explanation\n\ndogs\n\nThis holds for all excerpts.",
        "**Explanation**\n- dogs",
        "Final explanation: dogs",
        "Here is the explanation:\n\ndogs\n\nLet me know if you need more.",
        "```\n[EXPLANATION]: dogs```",
        "[EXPLANATION]: ```dogs```",
        "[EXPLANATION]:\n\n```text\ndogs\n```\nDone.",
        "[EXPLANATION]: cats\nNo, better: [EXPLANATION]: dogs",
        "[EXPLANATION]: dogs\nI used the [EXPLANATION]: tag as you asked.",
        "[EXPLANATION]: dogs\nNote on this explanation: I guessed.",
        "[EXPLANATION]: dogs\r\n\r\nExcerpt 9: a cat",
        "My answer is [EXPLANATION]: dogs",
        '```json\n{"explanation": "dogs"}\n```',
        '{\n  "Explanation": "dogs"\n}\nI hope this helps!',
        '{"reasoning": "they bark", "explanation": "dogs",}',
        '{"explanation": "[EXPLANATION]: dogs"}',
        '[EXPLANATION]: {"explanation": "dogs"}',
        '{"explanation": "cats"}\n\n{"explanation": "dogs"}',
        '[EXPLANATION]: cats\nAs JSON: {"explanation": "dogs"}',
        '{"explanation": "**dogs**"}',
    ],
)
def test_other_ways_to_write_the_line_are_read(reply: str) -> None:
    assert read("simple", reply) == "dogs"


@pytest.mark.parametrize(
    ("explainer", "reply", "text"),
    [
        (
            "simple",
            '[EXPLANATION]: JSON such as {"explanation": "x"} in code',
            'JSON such as {"explanation": "x"} in code',
        ),
        ("simple", "[EXPLANATION]: ** operator and **kwargs in Python", "** operator and **kwargs in Python"),
        ("simple", "[EXPLANATION]: the ``` token that opens code", "the ``` token that opens code"),
        ("simple", "[EXPLANATION]: words **of** joy", "words of joy"),
        ("simple", "[EXPLANATION]: labels such as 'Explanation:'", "labels such as 'Explanation:'"),
        ("saebench", "The neuron activates on dogs.\n\nNote: it activates on few cats.", "dogs"),
        ("saebench", "I think this neuron Activates On dogs.", "dogs"),
        ("saebench", "At first I asked what it activates on. This neuron activates on dogs", "dogs"),
        ("saebench", '{"explanation": "This neuron activates on dogs."}', "dogs"),
        ("saebench", '```json\n{"explanation": "dogs"}\n```', "dogs"),
        ("token_activation_pairs", "Of course!\n\nvowels", "vowels"),
        ("token_activation_pairs", "Sure, here is the explanation:\nvowels", "vowels"),
        ("token_activation_pairs", "The Main Thing This Neuron Does Is Find\nvowels", "vowels"),
        ("token_activation_pairs", "Explanation of neuron 2: vowels", "vowels"),
        ("token_activation_pairs", '{"explanation": "vowels"}', "vowels"),
        ("token_activation_pairs", "**vowels**\n\nI hope this helps!", "vowels"),
        ("max_activation", 'Step 1.\n**Explanation:** "dogs"', "dogs"),
        ("max_activation", 'Explanation: "-"', '"-"'),
        ("max_activation", '{"explanation": "dogs"}', "dogs"),
    ],
)
def test_each_form_is_read_and_what_looks_like_it_is_not_taken_for_it(explainer: str, reply: str, text: str) -> None:
    assert read(explainer, reply) == text


@pytest.mark.parametrize(
    ("explainer", "reply", "finish_reason", "kind"),
    [
        ("simple", "dogs", "stop", "unparsable"),
        ("simple", "", "stop", "unparsable"),
        ("simple", "[EXPLANATION]:", "stop", "unparsable"),
        ("simple", '{"explanation": null, "other": "dogs"}', "stop", "no_finding"),
        ("simple", "I'm sorry, but I can't help with that.", "stop", "refusal"),
        ("simple", '{"explanation": "I cannot determine this."}', "stop", "refusal"),
        ("simple", '{"explanation": "N/A"}', "stop", "no_finding"),
        ("simple", '{"explanation": ""}', "stop", "no_finding"),
        ("simple", '{"explanation": "your sentence"}', "stop", "placeholder"),
        ("simple", '{"error": "model overloaded"}', "stop", "error_text"),
        ("simple", "[EXPLANATION]: words about dogs and", "length", "cut_off"),
        ("simple", '{"explanation": "words about dogs and', "length", "cut_off"),
        ("simple", "The marked tokens are", "length", "cut_off"),
        ("saebench", "This neuron activates on dogs and other", "length", "cut_off"),
        ("saebench", "It is unclear whether this neuron activates on dogs.", "stop", "no_finding"),
        ("token_activation_pairs", "words about dogs and other", "length", "cut_off"),
        ("token_activation_pairs", "I don't see a pattern here.", "stop", "refusal"),
        ("max_activation", "Explanation: <label>", "stop", "placeholder"),
    ],
)
def test_what_is_no_explanation_is_a_failure_of_its_kind(
    explainer: str, reply: str, finish_reason: str, kind: str
) -> None:
    found = read(explainer, reply, finish_reason)
    assert isinstance(found, NotRead)
    assert found.kind == kind


def test_a_complete_object_counts_although_what_follows_was_cut_off() -> None:
    assert read("simple", '{"explanation": "dogs"}\n\n\n and', "length") == "dogs"


def test_what_only_repeats_the_prompt_is_no_explanation() -> None:
    told = [
        "Say in one short sentence what the feature fires on.\nBe specific.",
        "words for money paid on top of a bill",
    ]
    for text in ("say in one short sentence what the feature fires on", "words for money paid on top of a bill."):
        found = read_explanation(f"[EXPLANATION]: {text}", marked_line, expected="line", told=told)
        assert isinstance(found, NotRead)
        assert found.kind == "echo"
    for text in ("one short sentence", "words for money", "words for money paid in cash on top of a bill"):
        assert read_explanation(f"[EXPLANATION]: {text}", marked_line, expected="line", told=told) == text


HOSTILE: dict[str, Callable[[int], str]] = {
    "marks": lambda n: "[EXPLANATION]: " * n,
    "marks without colons": lambda n: "[EXPLANATION]" * n,
    "words": lambda n: "explanation " * n,
    "labels": lambda n: "explanation:\n" * n,
    "fences": lambda n: "```\n" * n + "[EXPLANATION]:" + "\n```" * n,
    "stars": lambda n: "[EXPLANATION]: " + "*" * n,
    "bold": lambda n: "[EXPLANATION]: " + "**a" * n,
    "objects": lambda n: '{"explanation": ' * n,
    "braces": lambda n: "{" * n,
    "questions": lambda n: "what it activates on ;" * n,
    "phrases": lambda n: "activates on " * n,
    "spaces": lambda n: "[EXPLANATION]:" + " " * n + "x",
    "lines": lambda n: "a:\n" * n,
    "apologies": lambda n: "[EXPLANATION]: " + "i'm sorry " * n,
    "quotes": lambda n: "[EXPLANATION]: " + "\"'" * n,
}


@pytest.mark.parametrize("shape", HOSTILE)
@pytest.mark.parametrize("explainer", PARSERS)
def test_the_time_grows_no_faster_than_the_text(explainer: str, shape: str) -> None:
    """Ten times the text, and at most thirty times the time: what is quadratic takes a hundred times as long."""

    def seconds(n: int) -> float:
        text = HOSTILE[shape](n)
        best = math.inf
        for _ in range(2):
            start = time.perf_counter()
            read(explainer, text)
            best = min(best, time.perf_counter() - start)
        return best

    assert seconds(3_000) < 30 * max(seconds(300), 0.002)


@given(st.text(max_size=300), st.sampled_from(["stop", "length"]), st.sampled_from(sorted(PARSERS)))
def test_no_text_is_an_error(text: str, finish_reason: str, explainer: str) -> None:
    found = read(explainer, text, finish_reason)
    assert isinstance(found, NotRead) or found.strip()


PIECES = st.sampled_from(
    [
        "[EXPLANATION]",
        ":",
        "explanation",
        " ",
        "\n",
        "```",
        "**",
        "dogs",
        '"',
        "{",
        "}",
        "activates on",
        "#",
        "what",
        "-",
        "[",
    ]
)


@given(st.lists(PIECES, max_size=40).map("".join), st.sampled_from(sorted(PARSERS)))
def test_no_mixture_of_marks_is_an_error(text: str, explainer: str) -> None:
    found = read(explainer, text)
    assert isinstance(found, NotRead) or (found.strip() and "\n" not in found)


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=30), st.text(max_size=200))
def test_what_follows_a_complete_object_changes_nothing(word: str, more: str) -> None:
    """As long as it is no other object and no mark."""
    reply = json.dumps({"explanation": f"words about {word}"})
    tail = more.replace("{", "(").replace("[", "(").replace("}", ")")
    assert read("simple", reply + "\n\n" + tail.lower().replace("explanation", "")) == f"words about {word}"


def test_of_a_text_without_end_only_the_end_is_read() -> None:
    assert marked_line("[EXPLANATION]: cats\n" + "x" * MOST_CHARACTERS) is None
    found = marked_line("y" * MOST_CHARACTERS + "\n[EXPLANATION]: dogs")
    assert found is not None
    assert found.text == "dogs"


def test_emphasis_around_a_text_goes_and_signs_within_stay() -> None:
    assert [plain(t) for t in ("**a b**", "*a*", "__init__", "a * b * c", "*args", "`x` and `y`", "**", "_")] == [
        "a b", "a", "init", "a * b * c", "*args", "`x` and `y`", "**", "_",
    ]  # fmt: skip
    assert first_line("```\nSure!\n```") == "Sure!"
