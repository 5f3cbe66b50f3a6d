"""Token rules in words: what the lexical explainer writes and the lexical judge reads.

A rule is a list of clauses, each true or false of one position in a text:

    the token " import"                 exactly this token
    the word "import"                   this token in any capitals, with or without spaces around it
    "(" after " print"                  this token, right after that one
    any token after " def"              whatever follows that token
    numbers                             a class of tokens

Quoted tokens are JSON strings, so that spaces, quotes and newlines are seen and survive. `write_rule` and `read_rule`
are inverse: the judge knows of a feature only what the sentence says.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

_BRACKETS_AND_QUOTES = frozenset("([{}])\"'`_")

TOKEN_CLASSES: dict[str, Callable[[str], bool]] = {
    "numbers": lambda token: token.strip().isdigit(),
    "capitalised words": lambda token: _is_word(token) and token.strip().istitle(),
    "words in capitals": lambda token: _is_word(token) and token.strip().isupper(),
    "line breaks": lambda token: "\n" in token,
    "indentation": lambda token: len(token) > 1 and token.isspace() and "\n" not in token,
    "opening brackets": lambda token: token.strip() in ("(", "[", "{"),
    "closing brackets": lambda token: token.strip() in (")", "]", "}"),
    "quotation marks": lambda token: token.strip() in ('"', "'", '"""', "'''", "``", "`"),
    "other punctuation": lambda token: bool(token.strip()) and not any(map(_is_no_punctuation, token.strip())),
    "pieces of words": lambda token: token.isalpha() and token.islower(),
    "words in lower case": lambda token: token.startswith(" ") and token[1:].isalpha() and token[1:].islower(),
    "names with underscores": lambda token: "_" in token,
}

_START = "Fires on "
_SEPARATOR = "; "
_END = "."
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_CLAUSE = re.compile(
    rf"(?:the token (?P<token>{_QUOTED})|the word (?P<word>{_QUOTED})|any token after (?P<after>{_QUOTED})"
    rf"|(?P<second>{_QUOTED}) after (?P<first>{_QUOTED})|(?P<name>[a-z][a-z ]+[a-z]))"
    r" \(\d+ of \d+\)"
)


class Clause(NamedTuple):
    """One condition on a position: a token, the one before it, or both; or a word; or a class of tokens.

    A tuple, because the lexical explainer counts hundreds of them for every feature.
    """

    token: str | None = None
    previous: str | None = None
    token_class: str | None = None
    word: str | None = None
    """As `word_in` gives it."""

    @property
    def words(self) -> str:
        kinds = (
            self.token is not None or self.previous is not None,
            self.token_class is not None,
            self.word is not None,
        )
        assert sum(kinds) == 1, f"a clause states one condition, not {self}"
        if self.token_class is not None:
            return self.token_class
        if self.word is not None:
            return f"the word {_quoted(self.word)}"
        if self.token is None:
            return f"any token after {_quoted(self.previous)}"
        return (
            f"the token {_quoted(self.token)}"
            if self.previous is None
            else f"{_quoted(self.token)} after {_quoted(self.previous)}"
        )


class _HoldsAlone(dict[str, bool]):
    """{token: whether a clause about that token alone holds of it}, filled as tokens are looked up."""

    def __init__(self, clauses: Sequence[Clause]) -> None:
        super().__init__()
        alone = [clause for clause in clauses if clause.previous is None]
        self._tokens = {clause.token for clause in alone} - {None}
        self._words = {clause.word for clause in alone} - {None}
        self._classes = {clause.token_class for clause in alone} - {None}

    def __missing__(self, token: str) -> bool:
        holds = (
            token in self._tokens or word_in(token) in self._words or not self._classes.isdisjoint(classes_of(token))
        )
        self[token] = holds
        return holds


class Rule:
    """Clauses, made ready to be looked for in many windows: the rule holds where any of them does."""

    def __init__(self, clauses: Sequence[Clause]) -> None:
        self._alone = _HoldsAlone(clauses)
        after = [clause for clause in clauses if clause.previous is not None]
        self._previous = {clause.previous for clause in after if clause.token is None}
        self._pairs = {(clause.previous, clause.token) for clause in after if clause.token is not None}

    def holds_at(self, str_tokens: Sequence[str], position: int) -> bool:
        token = str_tokens[position]
        if self._alone[token]:
            return True
        before = str_tokens[position - 1] if position > 0 else None
        return before in self._previous or (before, token) in self._pairs

    def holds_in(self, str_tokens: Sequence[str]) -> bool:
        """Whether it holds anywhere in a window."""
        if any(map(self._alone.__getitem__, str_tokens)):
            return True
        return not (self._previous.isdisjoint(str_tokens[:-1]) and self._pairs.isdisjoint(pairwise(str_tokens)))


@dataclass(frozen=True, slots=True)
class Support:
    """A clause, and how many of the training examples it accounts for."""

    clause: Clause
    n_examples: int


@lru_cache(maxsize=1 << 14)
def word_in(token: str) -> str | None:
    """The token without capitals and the spaces around it; None where that holds no letter or digit."""
    word = token.strip().casefold()
    return word if any(character.isalnum() for character in word) else None


@lru_cache(maxsize=1 << 14)
def classes_of(token: str) -> tuple[str, ...]:
    """The names of the classes that the token is of."""
    return tuple(name for name, holds in TOKEN_CLASSES.items() if holds(token))


def write_rule(supports: Sequence[Support], n_examples: int) -> str:
    """The rule as one sentence, with counts."""
    clauses = (f"{support.clause.words} ({support.n_examples} of {n_examples})" for support in supports)
    return f"{_START}{_SEPARATOR.join(clauses)}{_END}"


def read_rule(text: str) -> tuple[Clause, ...]:
    """The clauses of a sentence that `write_rule` wrote; empty when the text is no such sentence."""
    if not text.startswith(_START):
        return ()
    clauses: list[Clause] = []
    position = len(_START)
    while match := _CLAUSE.match(text, position):
        clause = _clause(match)
        if clause is None:
            return ()
        clauses.append(clause)
        if text[match.end() :] == _END:
            return tuple(clauses)
        if not text.startswith(_SEPARATOR, match.end()):
            return ()
        position = match.end() + len(_SEPARATOR)
    return ()


def _clause(match: re.Match[str]) -> Clause | None:
    """None where a name is no class of tokens, or a quoted string is not JSON."""
    name = match["name"]
    if name is not None and name not in TOKEN_CLASSES:
        return None
    try:
        token, word, after, second, first = (
            _unquoted(match[part]) for part in ("token", "word", "after", "second", "first")
        )
    except json.JSONDecodeError:
        return None
    return Clause(token if second is None else second, first if after is None else after, name, word)


def _quoted(text: str | None) -> str:
    return json.dumps(text, ensure_ascii=False)


def _unquoted(text: str | None) -> str | None:
    return None if text is None else json.loads(text)


def _is_word(token: str) -> bool:
    return len(token.strip()) > 1 and token.strip().isalpha()


def _is_no_punctuation(character: str) -> bool:
    return character.isalnum() or character in _BRACKETS_AND_QUOTES
