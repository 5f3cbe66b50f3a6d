"""What the words before a value in a reply say about it: that it is the answer, the final one, or something else.

A label is understood only if each of its words is: "Final answer:", "Here is the JSON:", "So the verdicts for the 5
excerpts are". A label of other words names something ("Strict:", "Matching excerpts:"), and words that no colon ends
are part of a sentence. An example, a format, a draft and what is denied or supposed are no answer.
"""

from typing import Literal, TypeAlias

from sae_auto_interp.prompting.surroundings import COLONS

LabelKind: TypeAlias = Literal["none", "answer", "final", "named", "talk"]
"""No label; one that announces the answer, or the final one; one that names something else; part of a sentence."""

_FINAL = {
    "final", "finally", "actually", "correction", "corrected", "revised", "updated", "conclusion", "overall",
}  # fmt: skip
_ANSWER = _FINAL | {
    "answer", "answers", "verdict", "verdicts", "result", "results", "output", "response", "reply", "judgement",
    "judgements", "judgment", "judgments", "decision", "decisions",
}  # fmt: skip
_OPENING = {"here", "sure", "okay", "ok", "json", "so", "therefore", "thus", "hence", "certainly", "no,"}
_FILLING = {
    "the", "my", "a", "an", "is", "are", "s", "as", "follows", "following", "in", "order", "and", "of", "for", "each",
    "all", "your", "you", "go", "with", "to", "this", "requested", "asked", "list", "array", "object", "i",
    "say", "give", "one", "course", "it",
}  # fmt: skip
_ABOUT = {
    "excerpt", "excerpts", "text", "texts", "description", "feature", "neuron", "number",
    "numbers", "question", "task",
}  # fmt: skip
_DOUBT = {
    "not", "never", "neither", "nor", "without", "except", "unlike", "e", "eg", "example", "examples", "format",
    "expected", "template", "schema", "sample", "placeholder", "draft", "drafts", "plan", "if", "would", "could",
    "might", "may", "maybe", "perhaps", "possibly", "suppose", "hypothetically", "alternative", "alternatively", "or",
    "either", "look", "looks", "like", "wrong", "incorrect", "thought", "thinking", "guess", "tentative", "confidence",
    "confidences",
}  # fmt: skip


def label_kind(before: str, after: str = "", own: frozenset[str] = frozenset()) -> LabelKind:
    """What a value is, by the words before it and the rest of its line; `own` are further names of an answer.

    >>> label_kind("Final answer:"), label_kind("The answer is not"), label_kind("Strict:"), label_kind("")
    ('final', 'talk', 'named', 'none')
    """
    if after.startswith("?") or "?" in before:
        return "talk"
    words = _words(before)
    if not words:
        return "none"
    kind = _understood(words, own)
    if kind is not None:
        return kind
    return "named" if before[-1] in COLONS and not _DOUBT.intersection(words) else "talk"


def is_answer_name(name: str, own: frozenset[str] = frozenset()) -> bool:
    """Whether a key says that its value is the answer."""
    words = _words(name)
    return bool(words) and _understood(words, own) is not None


def _understood(words: list[str], own: frozenset[str]) -> Literal["answer", "final"] | None:
    """Where each word is known and one of them says that an answer comes."""
    known = _ANSWER | _OPENING | _FILLING | own
    if own.intersection(words) or _ANSWER.intersection(words):
        known |= _ABOUT
    elif not _OPENING.intersection(words):
        return None
    if not all(word in known or (word.isdecimal() and len(word) < 5) for word in words):
        return None
    return "final" if _FINAL.intersection(words) or "no," in words else "answer"


def _words(text: str) -> list[str]:
    """Words in small letters; "no," is another word than "no"."""
    plain = "".join(sign if sign.isalnum() else ", " if sign == "," else " " for sign in text.casefold())
    return [word if word == "no," else word.rstrip(",") for word in plain.split() if word.rstrip(",")]
