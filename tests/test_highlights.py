"""Marks: which tokens get one, and that they can be taken out again."""

import re

import numpy as np
import pytest
from hypothesis import assume, given, strategies as st

from sae_auto_interp.prompting.highlights import (
    PREFERRED_DELIMITERS,
    choose_delimiters,
    highlighted_tokens,
    marked_text,
    normalised_activations,
)

TOKENS, ACTIVATIONS = ["a", " b", " c", " d"], np.array([0, 1, 2, 0], np.float32)
PIECES = st.sampled_from(
    [
        "",
        "a",
        " b",
        "<",
        "<<",
        "<<<",
        ">",
        ">>",
        "[",
        "[[",
        "]]",
        "{{",
        "}}",
        "«",
        "»",
        "⟦",
        "⟧",
        "<mark1>",
        "</mark1>",
        "é",
    ]
)
MARKED_TOKENS = st.lists(st.tuples(PIECES | st.text(max_size=4), st.booleans()), max_size=12)


def marked_above(fraction: float, *, inclusive: bool = False) -> str:
    marked = highlighted_tokens(ACTIVATIONS, fraction, inclusive=inclusive).tolist()
    return marked_text(TOKENS, marked, ("<<", ">>"))


@pytest.mark.parametrize(
    ("fraction", "inclusive", "expected"),
    [
        (0.3, False, "a<< b c>> d"),
        (0.5, False, "a b<< c>> d"),
        (0.5, True, "a<< b c>> d"),
        (0.6, False, "a b<< c>> d"),
        (0.3, True, "a<< b c>> d"),
        (0.0, True, "a<< b c>> d"),
        (1.0, True, "a b<< c>> d"),
        (1.0, False, "a b c d"),
    ],
)
def test_tokens_above_a_fraction_of_the_maximum_are_marked(fraction: float, inclusive: bool, expected: str) -> None:
    assert marked_above(fraction, inclusive=inclusive) == expected


@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize("activations", [[0, 0, 0], [-1, 0, -2], []])
def test_a_silent_window_has_no_mark(activations: list[float], inclusive: bool) -> None:
    marked = highlighted_tokens(np.array(activations, np.float32), 0.0, inclusive=inclusive)
    assert marked.dtype == bool
    assert not marked.any()


@pytest.mark.parametrize(
    ("activations", "largest", "expected"),
    [
        ([0, 0.01, 5, 10], 10, [0, 0, 5, 10]),
        ([-1, 0, 0.4, 0.5, 1, 3.99, 4], 4, [0, 0, 1, 1, 2, 9, 10]),
        ([1, 2, 30], 10, [1, 2, 10]),
        ([0, 0], 0, [0, 0]),
        ([1, 2], 0, [0, 0]),
        ([-3, -1], -1, [0, 0]),
        ([], 5, []),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_are_discretised_by_the_floor(
    activations: list[float], largest: float, expected: list[int], dtype: type
) -> None:
    assert normalised_activations(np.array(activations, dtype), largest) == expected


@given(MARKED_TOKENS)
def test_taking_the_delimiters_out_gives_back_the_text(pairs: list[tuple[str, bool]]) -> None:
    tokens, marked = [token for token, _ in pairs], [mark for _, mark in pairs]
    opening, closing = choose_delimiters(["".join(tokens)])
    shown = marked_text(tokens, marked, (opening, closing))
    assert shown.replace(opening, "").replace(closing, "") == "".join(tokens)
    assert shown.replace(closing, "").replace(opening, "") == "".join(tokens)


@given(MARKED_TOKENS)
def test_runs_are_maximal_and_never_empty(pairs: list[tuple[str, bool]]) -> None:
    tokens, marked = [token for token, _ in pairs], [mark for _, mark in pairs]
    opening, closing = "\ue000", "\ue001"
    assume(not {opening, closing} & set("".join(tokens)))
    shown = marked_text(tokens, marked, (opening, closing))
    outside = re.sub(f"{opening}[^{opening}{closing}]+{closing}", "|", shown)
    assert not {opening, closing} & set(outside), "every mark is closed and stands around text"
    assert closing + opening not in shown, "neighbouring runs are one"


def test_the_mark_of_a_half_character_goes_to_its_other_half() -> None:
    assert marked_text(["a", "", "é", "b"], [False, True, False, False], ("<<", ">>")) == "a<<é>>b"
    assert marked_text(["a", "", "b"], [True, False, True], ("<<", ">>")) == "<<ab>>"
    assert marked_text(["a", ""], [False, True], ("<<", ">>")) == "a"


def test_every_token_needs_a_mark_or_none() -> None:
    with pytest.raises(ValueError, match="shorter"):
        marked_text(["a", "b"], [True], ("<<", ">>"))


@pytest.mark.parametrize("number", range(len(PREFERRED_DELIMITERS)))
def test_delimiters_that_occur_in_any_of_the_texts_are_not_taken(number: int) -> None:
    taken = ["x << y", "]]", "{{", "»"][:number]
    assert choose_delimiters([*taken, "other"]) == PREFERRED_DELIMITERS[number]


def test_there_are_delimiters_for_any_text() -> None:
    everything = "".join(opening for opening, _ in PREFERRED_DELIMITERS) + " </mark1> <mark2>"
    assert choose_delimiters([everything]) == ("<mark3>", "</mark3>")
    assert choose_delimiters([]) == PREFERRED_DELIMITERS[0]


STRENGTHS = st.lists(st.floats(0, 10, width=32), min_size=1, max_size=12)


@given(STRENGTHS, st.integers(1, 5), st.sampled_from([0.0, 0.3, 1.0]))
def test_silent_tokens_around_a_window_change_no_mark(values: list[float], n: int, fraction: float) -> None:
    activations = np.array(values, np.float32)
    longer = np.pad(activations, n)
    for inclusive in (False, True):
        marked = highlighted_tokens(activations, fraction, inclusive=inclusive).tolist()
        assert highlighted_tokens(longer, fraction, inclusive=inclusive).tolist() == [False] * n + marked + [False] * n


@given(STRENGTHS, st.sampled_from([0.5, 2.0, 1024.0]))
def test_the_unit_of_activations_changes_neither_marks_nor_levels(values: list[float], scale: float) -> None:
    activations = np.array(values, np.float32)
    largest = float(activations.max())
    assert normalised_activations(activations * scale, largest * scale) == normalised_activations(activations, largest)
    same = highlighted_tokens(activations, 0.3) == highlighted_tokens(activations * np.float32(scale), 0.3)
    assert same.all()
