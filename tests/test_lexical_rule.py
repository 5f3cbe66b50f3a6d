"""Rules in words: what is written is what is read, and nothing else is read as a rule."""

import pytest
from hypothesis import given, strategies as st

from sae_auto_interp.prompting.token_rules import (
    TOKEN_CLASSES,
    Clause,
    Rule,
    Support,
    read_rule,
    word_in,
    write_rule,
)

LIKE_CLAUSES = [
    '"', '\\"', "\\", "; ", ".", "\n", '\r\n"', "\u2028", "🙂", "\ud83d", "", "numbers", " (3 of 4)",
    '(1 of 2); the token "y', '" after "', 'any token after "x" (1 of 1).', "Fires on numbers (1 of 1).", "\x00",
    "\x7f",
]  # fmt: skip
TOKENS = st.sampled_from(LIKE_CLAUSES) | st.text() | st.lists(st.sampled_from(LIKE_CLAUSES)).map("".join)


def clauses(**fields: st.SearchStrategy[str]) -> st.SearchStrategy[Clause]:
    return st.fixed_dictionaries(fields).map(lambda given: Clause(**given))


CLAUSES = st.one_of(
    clauses(token=TOKENS),
    clauses(token=TOKENS, previous=TOKENS),
    clauses(previous=TOKENS),
    clauses(word=TOKENS),
    clauses(token_class=st.sampled_from(sorted(TOKEN_CLASSES))),
)
SENTENCE = 'Fires on the token " cat" (3 of 9); "(" after "print" (2 of 9); numbers (1 of 9).'


@given(st.lists(st.tuples(CLAUSES, st.integers(0, 99)), min_size=1, max_size=5), st.integers(1, 99))
def test_what_is_written_is_read(pairs: list[tuple[Clause, int]], n_examples: int) -> None:
    text = write_rule([Support(clause, n) for clause, n in pairs], n_examples)
    assert read_rule(text) == tuple(clause for clause, _ in pairs)


@given(st.text() | TOKENS)
def test_no_other_text_is_read_as_a_rule_or_fails(text: str) -> None:
    assert read_rule(text) == () or text == "Fires on numbers (1 of 1)."
    assert read_rule(f"Fires on {text}x.") == ()


def test_a_rule_reads_as_a_sentence() -> None:
    clauses = [
        (Clause(token=" cat"), 3),
        (Clause(word="import"), 2),
        (Clause(token="(", previous='say "'), 2),
        (Clause(previous="\n"), 1),
        (Clause(token_class="numbers"), 1),
    ]
    assert write_rule([Support(clause, n) for clause, n in clauses], 9) == (
        r'Fires on the token " cat" (3 of 9); the word "import" (2 of 9); "(" after "say \"" (2 of 9); '
        r'any token after "\n" (1 of 9); numbers (1 of 9).'
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "words about cats",
        "Fires on cats.",
        "Fires on .",
        write_rule([], 3),
        SENTENCE[:-1],
        SENTENCE.rstrip(".") + "!",
        SENTENCE + " ",
        " " + SENTENCE,
        SENTENCE.replace("; ", ", "),
        SENTENCE.replace("; ", " and "),
        SENTENCE.replace("numbers", "digits"),
        SENTENCE.replace(" (2 of 9)", ""),
        SENTENCE.replace('" cat"', '" cat'),
        SENTENCE.replace('" cat"', r'"\q"'),
        SENTENCE.replace('" cat"', '"\n"'),
        SENTENCE.replace("the token", "the  token"),
    ],
)
def test_a_sentence_that_is_no_rule_reads_as_empty(text: str) -> None:
    assert read_rule(SENTENCE)
    assert read_rule(text) == ()


@pytest.mark.parametrize(
    ("clause", "expected"),
    [
        (Clause(token=" cat"), [False, True, False, False, False, True]),
        (Clause(previous=" cat"), [False, False, True, False, False, False]),
        (Clause(token=" cat", previous=" 7"), [False, False, False, False, False, True]),
        (Clause(token=" cat", previous="the"), [False, True, False, False, False, False]),
        (Clause(token="the", previous="the"), [False] * 6),
        (Clause(word="cat"), [False, True, False, True, False, True]),
        (Clause(token_class="numbers"), [False, False, False, False, True, False]),
    ],
)
def test_where_a_clause_holds(clause: Clause, expected: list[bool]) -> None:
    assert places_of([clause], ["the", " cat", " sat", "CAT", " 7", " cat"]) == expected


def places_of(clauses: list[Clause], str_tokens: list[str]) -> list[bool]:
    """Where the rule holds; that it does so anywhere must be the same as somewhere."""
    rule = Rule(clauses)
    places = [rule.holds_at(str_tokens, i) for i in range(len(str_tokens))]
    assert rule.holds_in(str_tokens) == any(places)
    return places


def test_a_rule_holds_where_any_clause_does() -> None:
    either = [Clause(token="a"), Clause(previous="b")]
    assert places_of(either, ["a", "b", "c", "d"]) == [True, False, True, False]
    assert places_of(either, []) == []
    assert places_of([], ["a"]) == [False]


def holds(clause: Clause, token: str, before: str | None) -> bool:
    """What a clause means, written out."""
    if clause.token_class is not None:
        return TOKEN_CLASSES[clause.token_class](token)
    if clause.word is not None:
        return word_in(token) == clause.word
    return clause.token in (None, token) and clause.previous in (None, before)


FEW = st.sampled_from([" cat", "cat", "Cat", "(", " 7", "7", "\n", "_x", ""])
FEW_CLAUSES = st.one_of(
    clauses(token=FEW),
    clauses(token=FEW, previous=FEW),
    clauses(previous=FEW),
    clauses(word=st.sampled_from(["cat", "7", "x"])),
    clauses(token_class=st.sampled_from(sorted(TOKEN_CLASSES))),
)


@given(st.lists(FEW_CLAUSES, max_size=4), st.lists(FEW, max_size=6))
def test_a_rule_holds_where_its_clauses_say(chosen: list[Clause], str_tokens: list[str]) -> None:
    pairs = zip(str_tokens, [None, *str_tokens], strict=False)
    assert places_of(chosen, str_tokens) == [any(holds(clause, *pair) for clause in chosen) for pair in pairs]


CLASS_EXAMPLES = {
    "numbers": ([" 42", "7"], ["", " ", " x7", "4.2", "seven"]),
    "capitalised words": ([" Paris", "The"], ["A", " paris", "PARIS", "X1", " "]),
    "words in capitals": ([" GPU", "TODO"], ["I", "Gpu", "A1", "__"]),
    "line breaks": (["\n", "\n    "], [" ", "n", ""]),
    "indentation": (["    ", "\t\t"], [" ", "\n  ", "", "  x"]),
    "opening brackets": (["(", " ["], ["((", ")", ""]),
    "closing brackets": ([")", " }"], ["))", "(", ""]),
    "quotation marks": (['"', " '", '"""'], ["a'", '""', ""]),
    "other punctuation": ([",", " :", "..."], ["", " ", "a,", "(", "_", "'s"]),
    "pieces of words": (["ing", "straße"], [" ing", "Ing", "", "ing,"]),
    "words in lower case": ([" cat"], ["cat", " Cat", " ", "  cat", " cat,"]),
    "names with underscores": (["_", "__init__"], ["-", ""]),
}


@pytest.mark.parametrize("name", TOKEN_CLASSES)
def test_what_belongs_to_a_class(name: str) -> None:
    members, others = CLASS_EXAMPLES[name]
    assert [TOKEN_CLASSES[name](token) for token in members] == [True] * len(members)
    assert [TOKEN_CLASSES[name](token) for token in others] == [False] * len(others)


@given(st.text())
def test_a_class_decides_about_any_token(token: str) -> None:
    assert {type(holds(token)) for holds in TOKEN_CLASSES.values()} == {bool}


@pytest.mark.parametrize(
    ("token", "word"),
    [
        (" Import", "import"),
        ("IMPORT", "import"),
        ("x7 ", "x7"),
        (" STRASSE", "strasse"),
        ("ß", "ss"),
        (" (", None),
        ("", None),
    ],
)
def test_the_word_in_a_token(token: str, word: str | None) -> None:
    assert word_in(token) == word


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"token": "a", "word": "b"},
        {"previous": "a", "token_class": "numbers"},
        {"word": "a", "token_class": "numbers"},
    ],
)
def test_a_clause_states_one_condition(fields: dict[str, str]) -> None:
    with pytest.raises(AssertionError, match="one condition"):
        write_rule([Support(Clause(**fields), 1)], 1)
