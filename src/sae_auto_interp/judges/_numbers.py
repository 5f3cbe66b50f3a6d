"""Numbers of excerpts in a reply: those that a description fits, or the one that is chosen.

A line is an answer if it holds numbers and nothing else but separators and words that announce them ("Texts 2, 5"),
or the word "none". Other lines are talk. A number that no excerpt has makes the reply unreadable.
"""

from sae_auto_interp.judges._verdict_lists import Verdicts
from sae_auto_interp.prompting.answers import AnswerForm, Labelled, agreed
from sae_auto_interp.prompting.json_in_text import MAX_DIGITS, Value
from sae_auto_interp.prompting.labels import is_answer_name, label_kind
from sae_auto_interp.prompting.numbered import SUBJECTS, label_number, whole_number
from sae_auto_interp.prompting.surroundings import COLONS, placed_lines
from sae_auto_interp.types import Response

_CHOOSING = frozenset({"choice", "choose", "chose", "chosen", "pick", "excerpt"})
_NONE_OF_THEM = frozenset({"none", "of", "the", "them", "these", "those", "texts", "excerpts"})
_ANNOUNCING = SUBJECTS - {"example", "no", "nr"}
"""Before a colon or a list; "Example: 2, 5" is none of the answer, and "No: 3" may deny it."""
_CARRYING_ON = frozenset({"and", "also", "plus", "or", "maybe", "perhaps", "possibly", "then"})
"""On a line of numbers they may add to another line, so that neither is the whole answer."""
_MARKS = " \t\r\n*_`\"'[]"
_LIST_MARKS = ("- ", "* ", "• ", "> ")
_NO_EXCERPT = 0
"""Stands for any number that no excerpt has."""


def read_numbers(response: Response, n: int) -> Verdicts | None:
    """Yes for the excerpts whose numbers are listed, no for the others: `2, 5 and 7`, `2-5` or `None`."""
    form = AnswerForm(
        read=lambda value: _of_value(value, n), names=SUBJECTS, of_text=lambda text: _listed(text, n), brackets="{"
    )
    chosen = form.answer(response)
    return None if chosen is None else Verdicts(tuple(i in chosen for i in range(1, n + 1)), (None,) * n)


def read_choice(response: Response, n: int) -> int | None:
    """The number from 1 to `n` that is chosen; None where none is, or several are."""
    form = AnswerForm(
        read=lambda value: _of_choice(value, n),
        key="choice",
        names=_CHOOSING,
        of_text=lambda text: _chosen(text, n),
        brackets="{",
    )
    return form.answer(response)


def _of_value(value: Value, n: int) -> frozenset[int] | None:
    """The numbers in a list of nothing else, or in a string."""
    if value.kind in ("string", "word"):
        return _usable(_numbers(value.text, n))
    each = [_usable(_numbers(item.text, n)) if item.kind in ("string", "word") else None for item in value.items]
    numbers = frozenset(number for found in each if found is not None for number in found)
    return numbers if value.kind == "list" and None not in each else None


def _of_choice(value: Value, n: int) -> int | None:
    if value.kind == "list":
        return _of_choice(value.items[0], n) if len(value.items) == 1 else None
    if value.kind == "object":
        return None
    number = whole_number(value.text, n)
    return label_number(value.text, n) if number is None else number


def _listed(text: str, n: int) -> frozenset[int] | None:
    """What the lines that are answers say, if they agree."""
    stated: list[Labelled[frozenset[int]]] = []
    lines = [line for _, line in placed_lines(text) if line.strip()]
    if lines and lines[0].lstrip().startswith("[") and lines[-1].rstrip().endswith("]"):
        lines = [" ".join(line.strip() for line in lines)]
    for line in lines:
        label, rest = _split_words(_unmarked(line))
        kind = label_kind(label, "", _ANNOUNCING)
        numbers = _numbers(rest, n) if kind in ("none", "answer", "final") else None
        if (numbers is not None and _NO_EXCERPT in numbers) or (numbers is None and _is_half_a_list(line)):
            return None
        if numbers is not None:
            announces_answer = kind == "final" or is_answer_name(label)
            stated.append((kind if announces_answer else "none", numbers))
    return _column(stated) if len(stated) == len(lines) > 1 else agreed(stated)


def _is_half_a_list(line: str) -> bool:
    """Whether a line holds numbers, and beside them only words that carry a list on: `2, 5 and`, `also 9`, `9?`."""
    words = "".join(sign if sign.isalnum() else " " for sign in line.casefold()).split()
    return any(word.isdecimal() for word in words) and all(word.isdecimal() or word in _CARRYING_ON for word in words)


def _column(stated: list[Labelled[frozenset[int]]]) -> frozenset[int] | None:
    """One number on each line, rising, is a list; else it is what any lines are."""
    numbers = [[*found] for _, found in stated if found is not None]
    flat = [number for found in numbers for number in found]
    if all(len(found) == 1 for found in numbers) and flat == sorted(set(flat)):
        return frozenset(flat)
    return agreed(stated)


def _chosen(text: str, n: int) -> int | None:
    """The number that stands alone on a line, or behind words that announce it; if all such lines agree."""
    stated: list[Labelled[int]] = []
    for _, line in placed_lines(text):
        plain = _unmarked(line).rstrip(".!")
        words, _, last = plain.replace("#", " ").replace("**", " ").rpartition(" ") if plain else ("", "", "")
        number = _whole(last)
        kind = label_kind(words, "", _CHOOSING)
        if number is None or kind not in ("none", "answer", "final") or any(sign.isdigit() for sign in words):
            continue
        if not 1 <= number <= n:
            return None
        stated.append((kind, number))
    return agreed(stated)


def _numbers(text: str, n: int) -> frozenset[int] | None:
    """The numbers that a text lists, `_NO_EXCERPT` for others than 1 to `n`; None where it is no such list."""
    plain = text.strip(_MARKS + ".!").casefold()
    if "..." in text or "…" in text:  # there are more, and which is not said
        return None
    if plain == "none" or (plain.startswith("none ") and _NONE_OF_THEM.issuperset(plain.split())):
        return frozenset()
    for word in (" to ", " through "):
        plain = plain.replace(word, "-")
    for separator in (";", "&", ",", "\t", " and "):
        plain = plain.replace(separator, " ")
    numbers: set[int] = set()
    for token in plain.split():
        found = _range(token.strip(".#"), n)
        if found is None:
            return None
        numbers |= found
    return frozenset(numbers) if numbers else None


def _range(token: str, n: int) -> set[int] | None:
    """`2` or `2-5`."""
    first, dash, last = token.replace("–", "-").partition("-")
    if not first and dash:
        return None if _whole(last) is None else {_NO_EXCERPT}
    low, high = _whole(first), _whole(last) if dash else _whole(first)
    if low is None or high is None:
        return None
    return {*range(low, high + 1)} if 1 <= low <= high <= n else {_NO_EXCERPT}


def _whole(digits: str) -> int | None:
    """The whole number, with or without a minus, that digits of any script are; `_NO_EXCERPT` for a long one."""
    if not digits.removeprefix("-").isdecimal():
        return None
    return int(digits) if len(digits) <= MAX_DIGITS else _NO_EXCERPT


def _usable(numbers: frozenset[int] | None) -> frozenset[int] | None:
    return None if numbers is None or _NO_EXCERPT in numbers else numbers


def _unmarked(line: str) -> str:
    """A line without its list mark and emphasis; a minus stays."""
    plain = line.strip()
    mark = next((mark for mark in _LIST_MARKS if plain.startswith(mark)), "")
    return plain.removeprefix(mark).strip(_MARKS)


def _split_words(line: str) -> tuple[str, str]:
    """The words that announce a list, and the list."""
    end = max(line.rfind(sign) for sign in COLONS)
    if end >= 0:
        return line[: end + 1], line[end + 1 :]
    word, _, rest = line.partition(" ")
    return (word, rest) if word.casefold().rstrip(".") in _ANNOUNCING else ("", line)
