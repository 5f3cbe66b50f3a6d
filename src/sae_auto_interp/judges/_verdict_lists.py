"""Verdicts in a reply: `{"verdicts": [1, 0]}`, a list that stands alone, or an answer for each number from 1 to n.

A list counts only if it has exactly n entries and each of them is a verdict. A list behind other words, such as
"Matching excerpts:", may be one of numbers or mean the opposite, and counts for nothing.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from sae_auto_interp.prompting.answers import AnswerForm, Labelled, agreed
from sae_auto_interp.prompting.json_in_text import Value, number_in
from sae_auto_interp.prompting.labels import is_answer_name, label_kind
from sae_auto_interp.prompting.numbered import in_order, numbered_items, split_label, whole_number
from sae_auto_interp.prompting.surroundings import COLONS, placed_lines, without_markup
from sae_auto_interp.types import Response

_WORDS = {"true": True, "false": False, "yes": True, "no": False, "y": True, "n": False}
_FITS = frozenset({"fits", "fit", "match", "matches", "verdict"})
"""Keys of an entry that mean what a verdict means."""
_HEADING = _FITS | {
    "based", "on", "given", "provided", "above", "below", "by", "evaluation", "evaluations", "assessment", "analysis",
    "classification",
}  # fmt: skip
"""Words of a heading over numbered lines, besides those of any label."""
_ENDS_OF_SENTENCE = (".", "!", "。")
_ENDS_OF_WORD = " \t,.;:(!"
_BEFORE_REASONS = ",.;:(-–—"


@dataclass(frozen=True, slots=True)
class Verdicts:
    """One verdict for each excerpt, in order; equal if they say the same."""

    matches: tuple[bool, ...]
    places: tuple[int | None, ...] = field(compare=False)
    """Offset in the reply of the first character of each, where it has one character or word there."""


def read_verdicts(response: Response, n: int) -> Verdicts | None:
    """Exactly `n` verdicts; None where the reply does not hold them."""
    form = AnswerForm(
        read=lambda value: _verdicts(value, n),
        key="verdicts",
        of_text=lambda text: _numbered_lines(text, n) or _bare_lists(text, n),
        brackets="[{(" if n > 1 else "[{",
    )
    return form.answer(response)


def _verdicts(value: Value, n: int) -> Verdicts | None:
    if value.kind == "object":
        return _each(numbered_items(value, n) or ())
    if value.kind == "list":
        return _each(_entries(value, n) or ()) if len(value.items) == n else _spaced(value, n)
    single = _verdict(value.text) if n == 1 else None
    return _split(value.text, None, n) if single is None else Verdicts((single,), (value.place,))


def _each(items: Sequence[Value]) -> Verdicts | None:
    """The verdicts that items are; None where one is none, or there are no items."""
    leaves = [item.items[0] if item.kind == "list" and len(item.items) == 1 else item for item in items]
    found = [_verdict(leaf.text) if leaf.kind in ("string", "word") else None for leaf in leaves]
    matches = tuple(verdict for verdict in found if verdict is not None)
    return Verdicts(matches, tuple(leaf.place for leaf in leaves)) if items and len(matches) == len(items) else None


def _verdict(text: str) -> bool | None:
    """1, 0, true, false, yes, no or the letters y and n, in any case and kind of digit; 1.0 and 0.0 too."""
    word = unicodedata.normalize("NFKC", text[:20]).strip().casefold()
    if len(text) > 20 or word in _WORDS:
        return _WORDS.get(word) if len(text) <= 20 else None
    number = number_in(word)
    return number == 1 if number in (0, 1) else None


def _entries(value: Value, n: int) -> Sequence[Value] | None:
    """The items of a list or, of a list of objects, the verdict of each, by the excerpt's number where it has one."""
    if not any(item.kind == "object" for item in value.items):
        return value.items
    verdicts = [_of_entry(item) for item in value.items]
    numbers = _numbers_of(value.items, n)
    if numbers is None or None in verdicts:
        return None
    return in_order(zip(numbers, [verdict for verdict in verdicts if verdict is not None], strict=True), n)


def _of_entry(item: Value) -> Value | None:
    """The one field of an entry that is called a verdict."""
    named = [
        own for name, own in zip(item.keys, item.items, strict=False)
        if is_answer_name(name) or name.strip().casefold() in _FITS
    ]  # fmt: skip
    return named[0] if len(named) == 1 and item.kind == "object" else None


def _numbers_of(items: Sequence[Value], n: int) -> Sequence[int] | None:
    """The numbers of entries: the field that counts from 1 to n, or the order where no field holds a number.

    None where numbers are there and do not count.
    """
    fields = {name for item in items for name in item.keys if not is_answer_name(name) and name not in _FITS}
    held = {name: [item.get(name.strip().casefold()) for item in items] for name in fields}
    counts = [
        [whole_number(value.text, n) if value is not None else None for value in values] for values in held.values()
    ]
    counting = [[k for k in count if k is not None] for count in counts if set(count) == set(range(1, n + 1))]
    if len(counting) == 1:
        return counting[0]
    has_numbers = any(value is not None and number_in(value.text) is not None for vs in held.values() for value in vs)
    return None if counting or has_numbers else range(1, n + 1)


def _spaced(value: Value, n: int) -> Verdicts | None:
    """`[1 0 1]`: a list without commas."""
    (item,) = value.items if len(value.items) == 1 and value.items[0].kind == "word" else (None,)
    return None if item is None else _split(item.text, item.place, n)


def _split(text: str, begin: int | None, n: int) -> Verdicts | None:
    """`n` verdicts between commas, semicolons or spaces; `begin` is the text's offset, where it has one."""
    has_commas = "," in text or ";" in text
    parts = text.replace(";", ",").split(",") if has_commas else text.split()
    if len(parts) != n or len(text) > 40 * n or (not has_commas and n > 1 and any(p.endswith(".") for p in parts[:-1])):
        return None  # `1. 0` says it of the first excerpt
    found = [_verdict(part.strip().strip("*_`\"'")) for part in parts]
    matches = tuple(verdict for verdict in found if verdict is not None)
    places: list[int | None] = []
    at = 0
    for part in parts:
        word = part.strip().strip("*_`\"'")
        at = text.find(word, at)
        places.append(None if begin is None else begin + at)
        at += len(word)
    return Verdicts(matches, tuple(places)) if len(matches) == n else None


def _numbered_lines(text: str, n: int) -> Verdicts | None:
    """Lines that are labelled 1 to n, each once, with a verdict; other lines must say nothing of verdicts."""
    found: list[tuple[int, tuple[bool, int]]] = []
    heading = ""
    for offset, line in placed_lines(text):
        labelled = _numbered_line(line, n)
        if labelled is None:
            if found and _speaks_of_verdicts(line):
                return None
            heading = heading if found or _is_rule(line) else line.strip()
            continue
        number, verdict, place = labelled
        found.append((number, (verdict, offset + place)))
    ordered = in_order(found, n)
    if ordered is None or not _announces_verdicts(heading):
        return None
    return Verdicts(tuple(verdict for verdict, _ in ordered), tuple(place for _, place in ordered))


def _announces_verdicts(heading: str) -> bool:
    """Whether what stands right above numbered lines leaves it at verdicts: another heading may mean the opposite.

    Of a table the column of the verdicts decides; a sentence that is finished is no heading.
    """
    if heading.startswith("|"):
        cells = [cell.strip() for cell in heading.strip("|").split("|")]
        named = cells[1].rstrip("? ") if len(cells) > 1 else "?"
        return named.casefold() in ("yes/no", "y/n") or label_kind(named, "", _HEADING) in ("none", "answer", "final")
    words = without_markup(heading)
    is_sentence = words.endswith(_ENDS_OF_SENTENCE)
    return is_sentence or label_kind(words, "", _HEADING) in ("none", "answer", "final")


def _is_rule(line: str) -> bool:
    """The line under the head of a table, or one that only parts what is above from what is below."""
    return not line.strip(" \t\r\n|-:=_*")


def _numbered_line(line: str, n: int) -> tuple[int, bool, int] | None:
    """Number, verdict and the verdict's place in a line; a reason may follow it that speaks of no other verdict."""
    plain = line.replace("|", " ", 1) if line.lstrip().startswith("|") else line
    plain = plain.replace("|", ":", 1)
    labelled = split_label(plain, n)
    if labelled is None:
        return None
    number, rest = labelled
    begin = len(line) - len(rest.lstrip(" \t*_`:[\"'"))
    word = "".join(iter_until(line[begin:], _ENDS_OF_WORD + "*_`]|\"'\r\n"))
    tail = line[begin + len(word) :].strip(" \t*_`]|\"'\r\n")
    verdict = _verdict(word)
    if verdict is None or (tail and (tail[0] not in _BEFORE_REASONS or _speaks_of_verdicts(tail))):
        return None
    return number, verdict, begin


def iter_until(text: str, ends: str) -> str:
    """The beginning of a text, up to one of some signs."""
    return text[: next((at for at, sign in enumerate(text) if sign in ends), len(text))]


def _speaks_of_verdicts(text: str) -> bool:
    """Whether a text holds a digit or a word that may be a verdict."""
    words = "".join(sign if sign.isalnum() else " " for sign in text.casefold()).split()
    return any(word in _WORDS or any(sign.isdigit() for sign in word) for word in words)


def _bare_lists(text: str, n: int) -> Verdicts | None:
    """`1, 0, 1` as the whole reply, or as a line with a label that says that it is the answer."""
    lines = [(offset, line) for offset, line in placed_lines(text) if line.strip()]
    stated: list[Labelled[Verdicts]] = []
    for offset, line in lines:
        if "[" in line or "{" in line:
            continue  # brackets are read as values, and what is none is not read twice
        label, rest = _split_words(line)
        kind = label_kind(label)
        if kind in ("answer", "final") or (not label and len(lines) == 1):
            plain = without_markup(rest).rstrip(".!")
            found = _split(plain, offset + len(line) - len(rest) + rest.find(plain), n)
            if found is not None or kind != "none":
                stated.append((kind, found))
    return agreed(stated)


def _split_words(line: str) -> tuple[str, str]:
    """The label of a line, with its colon, and the rest."""
    end = max(line.rfind(sign) for sign in COLONS)
    return without_markup(line[: end + 1]), line[end + 1 :]
