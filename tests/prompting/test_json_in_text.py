"""Which values are found in a text, where they stand, and that no text is an error."""

import json

import pytest
from hypothesis import given, settings, strategies as st

from sae_auto_interp.prompting.json_in_text import Value, found_values, number_in, unescaped

HOSTILE = [
    "[", "[1,", '["', "['", "[“", "[//", "[(", "[# ", '{"a":', '{"a":[1],', "[1]", "\\", '["\\', '[" ', " ", "\t\n",
    "```", '["" ', "9", ",", "]", '"', "Final: [1]\n", "[1 // [",
    "a. ", "e.g. [", '"{"a', "\\u12", "\ud800[", "\x00[", "{'a':",
]  # fmt: skip

PIECES = [*HOSTILE, "]", "}", ")", '"', "'", "1", "a", ":", "\n", "\u2028", "1e999"]


def plain(value: Value) -> object:
    """As `json.loads` would give it, with words and numbers as they were written."""
    if value.kind == "object":
        return dict(zip(value.keys, map(plain, value.items), strict=True))
    return [plain(item) for item in value.items] if value.kind == "list" else value.text


def plain_values(text: str) -> list[object]:
    return [plain(found.value) for found in found_values(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": [1, "x"]}', [{"a": ["1", "x"]}]),
        ('{"a": [1, "x",],}', [{"a": ["1", "x"]}]),
        ("{'a': [True, None]}", [{"a": ["True", "None"]}]),
        ("{a: yes, 2: no}", [{"a": "yes", "2": "no"}]),
        ("{“a”: ‘b’, «c»: „d“}", [{"a": "b", "c": "d"}]),  # noqa: RUF001
        ("[1; 0]", [["1", "0"]]),
        ("(1, 0)", [["1", "0"]]),
        ("[\n1, // one, of [two]\n0 # nil, too\n]", [["1", "0"]]),
        ("[１, ０]", [["１", "０"]]),  # noqa: RUF001
        ("```json\n[1]\n```", [["1"]]),
        ("\\boxed{[1, 0]}", [["1", "0"]]),
        ('"{\\"a\\": [1, \\"\\\\n\\"]}"', [{"a": ["1", "\n"]}]),
        ('["it\\u0027s", "\\ud83d\\ude00", "\\ud83d", "\\alpha"]', [["it's", "😀", "\ud83d", "\\alpha"]]),
        ('{"a": "see [1] {2}"} [3]', [{"a": "see [1] {2}"}, ["3"]]),
        ("[]{}()", [[], {}, []]),
        ('{"a": 1, "a": 2}', [{"a": "2"}]),
        ('[1, "a" or "b", [1], 0]', [["1", 'a" or "b', ["1"], "0"]]),
        ('["a", b "c" [1], "d" e]', [["1"]]),
        ('{"a": "the "best" one", "b": 1}', [{"a": 'the "best" one', "b": "1"}]),
        ("[1, don't know, 0]", [["1", "don't know", "0"]]),
        ('{"a": [1, 0], "b": ', [["1", "0"]]),
        ('{"a": [1, 0', []),
        ('["a]', []),
        ("[1, 0)", []),
        ("[1,, 0]", []),
        ("{[1]: 2}", [["1"]]),
        ("[" * 40 + "1" + "]" * 40, [json.loads("[" * 8 + '"1"' + "]" * 8)]),
        ("", []),
    ],
)
def test_what_is_found(text: str, expected: list[object]) -> None:
    assert plain_values(text) == expected


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("[1]", "", ""),
        ("\ufeff[1]\r\n", "", ""),
        ("Reasons.\n\n[1]\n\nMore", "", ""),
        ("**Final answer:** [1]", "Final answer:", ""),
        ("Final answer:\n\n```json\n[1]\n```", "Final answer:", ""),
        ("I looked at 2 and 4. [1] is it", "", "is it"),
        ("Not this: that! [1].", "", "."),
        ("One per text, e.g. [1].)", "One per text, e.g.", "."),
        ("The answer is not [1]", "The answer is not", ""),
        ("- `[1]`", "", ""),
        ("1. [1]", "", ""),
        ("```json [1]```", "", ""),
        ("[0]? No: [1]", "No:", ""),
        ('{"a": "b' + '"c" "d", "e": [1]', "e:", ""),
    ],
)
def test_what_stands_around_a_value(text: str, before: str, after: str) -> None:
    found = found_values(text)[-1]
    assert (found.before, found.after) == (before, after)
    assert found.stands_alone == (before == "" or before.endswith(":"))


def test_places_are_those_of_the_text_that_was_given() -> None:
    for text in ('x {"v": [1, "0"]}', json.dumps('{"v": ["1", \n0]}'), ' "{\\"\\u0076\\": [1, 0]"'):
        (found,) = found_values(text)
        places = [item.place for item in (found.value.get("v") or found.value).items]
        assert [text[place] for place in places] == ["1", "0"], text


def test_the_last_value_of_a_key_counts_however_the_key_is_written() -> None:
    (found,) = found_values('{"A ": 1, "a": 2, "b": 3}')
    last = found.value.get("a")
    assert last is not None
    assert last.text == "2"
    assert found.value.get("c") is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3", 3), ("3.0", 3), ("-3", -3), ("１", 1), ("1e2", 100), ("", None), ("NaN", None), ("inf", None),  # noqa: RUF001
        ("1e999", None), ("9" * 5000, None),
        ("True", None), ("1_000", None), ("0x1", None), ("--1", None), ("1 2", None), ("²", 2),
    ],
)  # fmt: skip
def test_which_texts_are_numbers(text: str, number: float | None) -> None:
    assert number_in(text) == number


JSON_VALUES = st.recursive(
    st.text() | st.integers(0, 10**9).map(str),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(JSON_VALUES.filter(lambda value: isinstance(value, list | dict)), st.booleans(), st.sampled_from([None, 2]))
def test_whatever_is_json_is_found_as_it_is(value: object, is_ascii: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii, indent=indent)
    assert plain_values(text) == [value]
    assert plain_values(json.dumps(text)) == [value]
    assert plain_values(f"Here:\n{text}\nand no more") == [value]


@settings(deadline=None)
@given(st.text())
def test_escapes_are_undone_as_json_does(text: str) -> None:
    assert unescaped(json.dumps(text)[1:-1]) == text


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.sampled_from([*HOSTILE, "]", "}", ")", '"', "'", "1", "a", ":", "\n", "\u2028", "1e999"])).map("".join)
)
def test_no_text_is_an_error_and_places_are_within_it(text: str) -> None:
    def check(value: Value) -> None:
        assert 0 <= value.begin < value.end <= len(text)
        for item in value.items:
            check(item)

    for found in found_values(text):
        check(found.value)
        assert isinstance(found.before + found.after, str)
