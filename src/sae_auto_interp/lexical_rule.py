"""Token rules in words: what the lexical explainer writes and the lexical judge reads.

A rule is a list of clauses, each true or false of one position in a text:

    the token " import"                 exactly this token
    "(" after " print"                  this token, right after that one
    any token after " def"              whatever follows that token
    numbers                             a class of tokens

Quoted tokens are JSON strings, so that spaces, quotes and newlines are seen and survive. `write` and `read` are
inverse: the judge knows of a feature only what the sentence says.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

TOKEN_CLASSES: dict[str, Callable[[str], bool]] = {
    "numbers": lambda token: token.strip().isdigit(),
    "capitalised words": lambda token: len(token.strip()) > 1 and token.strip().istitle() and token.strip().isalpha(),
    "words in capitals": lambda token: len(token.strip()) > 1 and token.strip().isupper() and token.strip().isalpha(),
    "line breaks": lambda token: "\n" in token,
    "indentation": lambda token: len(token) > 1 and token.isspace() and "\n" not in token,
    "opening brackets": lambda token: token.strip() in ("(", "[", "{"),
    "closing brackets": lambda token: token.strip() in (")", "]", "}"),
    "quotation marks": lambda token: token.strip() in ('"', "'", '"""', "'''", "``", "`"),
    "other punctuation": lambda token: len(token.strip()) > 0 and not any(c.isalnum() or c in "([{}])\"'`_" for c in token.strip()),
    "pieces of words": lambda token: token.isalpha() and token.islower(),
    "words in lower case": lambda token: token.startswith(" ") and token[1:].isalpha() and token[1:].islower(),
    "names with underscores": lambda token: "_" in token,
}  # fmt: skip

_START = "Fires on "
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_CLAUSE = re.compile(
    rf"(?:the token (?P<token>{_QUOTED})|any token after (?P<after>{_QUOTED})"
    rf"|(?P<second>{_QUOTED}) after (?P<first>{_QUOTED})|(?P<name>[a-z][a-z ]+[a-z])) \((?P<count>\d+) of (?P<total>\d+)\)"
)


@dataclass(frozen=True, slots=True)
class Clause:
    """One condition on a position. At least one of the three is set; those that are set must all hold."""

    token: str | None = None
    previous: str | None = None
    token_class: str | None = None

    def holds_at(self, str_tokens: Sequence[str], position: int) -> bool:
        if self.token_class is not None and not TOKEN_CLASSES[self.token_class](str_tokens[position]):
            return False
        if self.token is not None and str_tokens[position] != self.token:
            return False
        return self.previous is None or (position > 0 and str_tokens[position - 1] == self.previous)

    @property
    def words(self) -> str:
        if self.token_class is not None:
            return self.token_class
        if self.token is None:
            return f"any token after {json.dumps(self.previous, ensure_ascii=False)}"
        quoted = json.dumps(self.token, ensure_ascii=False)
        return f"the token {quoted}" if self.previous is None else f"{quoted} after {json.dumps(self.previous, ensure_ascii=False)}"


@dataclass(frozen=True, slots=True)
class Support:
    """A clause, and how many of the training examples it accounts for."""

    clause: Clause
    n_examples: int


def write_rule(supports: Sequence[Support], n_examples: int) -> str:
    """The rule as one sentence, with counts."""
    clauses = "; ".join(f"{support.clause.words} ({support.n_examples} of {n_examples})" for support in supports)
    return f"{_START}{clauses}."


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
        if text[match.end() :] == ".":
            return tuple(clauses)
        position = match.end() + len("; ")
    return ()


def matching_positions(clauses: Sequence[Clause], str_tokens: Sequence[str]) -> list[bool]:
    """Where any clause holds."""
    return [any(clause.holds_at(str_tokens, i) for clause in clauses) for i in range(len(str_tokens))]


def _clause(match: re.Match[str]) -> Clause | None:
    token, after, second, first = (_unquoted(match.group(name)) for name in ("token", "after", "second", "first"))
    name = match.group("name")
    if name is not None and name not in TOKEN_CLASSES:
        return None
    return Clause(token if second is None else second, first if after is None else after, name)


def _unquoted(text: str | None) -> str | None:
    return None if text is None else json.loads(text)
