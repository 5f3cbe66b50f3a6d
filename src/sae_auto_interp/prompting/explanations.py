"""Whether a text says what a feature fires on, or why it does not: a refusal, a placeholder, "N/A", an error, a loop.

What decides is how the text is built, not which words it holds, since features fire on apologies, errors and blanks
too: a refusal is a sentence in the first person ("I'm sorry, but I cannot ..."), an explanation of apologies a phrase
about them ("apologies such as 'I'm sorry'"). Text in quotes is spoken of and says nothing by itself.

Every rule looks at the first `HEAD` characters or at the text as a whole, and the time is linear in the text.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from sae_auto_interp.prompting._refusals import AFTER_A_CLAUSE, finds_nothing, is_refusal, talks_back, words_of

MOST_CHARACTERS = 4_000
"""A longer text is no explanation but a loop or an essay."""
HEAD = 600
"""Characters by which a text is recognised as a refusal or an error."""
_TOKEN = re.compile(r"[^\W_]+(?:'[^\W_]+)?|[^\w\s]|_")
_QUOTES = {'"': '"', "'": "'", "“": "”", "«": "»", "„": "“"}
_BRACKETS = {"<": ">", "[": "]", "{": "}", "(": ")"}
_BLANK_SIGNS = frozenset("-–—_.…?*/\\~|=+#:;!<>[](){}")
_BLANKS = words_of(
    "n/a|none|null|nil|nan|nothing|unknown|unclear|undefined|undetermined|unspecified|uncertain|inconclusive|"
    "not applicable|not available|not sure|no idea|no answer|no explanation|no description|no comment|empty string"
    ""
)
_PLACEHOLDERS = frozenset({"tbd", "tba", "todo", "xxx", "placeholder", "lorem ipsum"})
_SLOT = words_of(
    "explanation|description|sentence|label|answer|phrase|summary|text|placeholder|interpretation|hypothesis"
)
"""What a form has a blank for."""
_SLOT_WORDS = _SLOT | words_of(
    "a|an|the|your|my|one|new|short|brief|concise|single|final|here|goes|go|of|for|in|words|word|describing|explaining|"
    "about|what|why|when|how|it|this|that|is|fires|activates|activate|on|feature|neuron|s"
)
_IMPERATIVES = words_of("insert|write|enter|put|add|fill|replace|type|provide|give|your")
_FAILING = words_of("error|exception|failure|fatal|traceback|panic")
_MACHINERY = words_of(
    "request|connection|response|server|api|service|model|call|generation|operation|limit|quota|length|context|prompt|"
    "error|exception|something|tokens|gateway|endpoint|client|stream|output|input|timeout|memory"
)
_BREAKDOWNS = words_of(
    "failed|exceeded|refused|reset|closed|occurred|wrong|overloaded|unavailable|aborted|cancelled|canceled|expired|"
    "unreachable|terminated|denied|timed|interrupted|invalid|rejected|lost|reached|returned|crashed"
)


@dataclass(frozen=True, slots=True)
class NoExplanation:
    """Why a text is no explanation."""

    kind: str
    """`refusal`, `no_finding`, `placeholder`, `error_text` or `too_long`: what failures are counted by."""
    message: str


def why_no_explanation(text: str) -> NoExplanation | None:
    """What is wrong with a text as an explanation of a feature; None where it is one.

    >>> why_no_explanation("phrases of apology such as 'I'm sorry'"), why_no_explanation("N/A").kind
    (None, 'no_finding')
    """
    if len(text) > MOST_CHARACTERS:
        return NoExplanation("too_long", f"the explanation has {len(text):,} characters; at most {MOST_CHARACTERS:,}")
    whole, is_quoted = _unquoted(text.strip())
    if _is_blank(whole, is_quoted):
        return NoExplanation("no_finding", f"an empty answer, not an explanation: {_shown(text)}")
    if _is_placeholder(whole):
        return NoExplanation("placeholder", f"the placeholder of a form, not an explanation: {_shown(text)}")
    head = whole[:HEAD].replace("’", "'")
    if _is_error(head):
        return NoExplanation("error_text", f"an error message, not an explanation: {_shown(text)}")
    tokens = words_and_signs(head.lower())
    if is_refusal(tokens, head, is_quoted=is_quoted):
        return NoExplanation("refusal", f"a refusal, not an explanation: {_shown(text)}")
    if not is_quoted and talks_back(tokens):
        return NoExplanation("no_finding", f"speaks to whoever asked, and is no explanation: {_shown(text)}")
    if finds_nothing(tokens):
        return NoExplanation("no_finding", f"says that nothing was found, and is no explanation: {_shown(text)}")
    return None


def words_and_signs(text: str) -> list[str]:
    """Words (with an apostrophe inside) and single signs, in order.

    >>> words_and_signs("I can't, sorry.")
    ['I', "can't", ',', 'sorry', '.']
    """
    return _TOKEN.findall(text)


def _unquoted(text: str) -> tuple[str, bool]:
    """The text without quotes around all of it, and whether there were some."""
    closing = _QUOTES.get(text[:1])
    if closing is None or len(text) < 2 or text[-1] != closing or closing in text[1:-1]:
        return text, False
    return text[1:-1].strip(), True


def _is_blank(text: str, is_quoted: bool) -> bool:
    """Signs that stand for nothing (in quotes they are spoken of), or a word for it."""
    if not any(character.isalnum() for character in text):
        return not text or (not is_quoted and set(text) <= _BLANK_SIGNS and not _is_code(text))
    bare = text.strip(" *_`.!?:;,()[]{}<>-–—")
    return bare in ("NA", "N.A", "N.a", "n.a") or bare.lower() in _BLANKS


def _is_code(text: str) -> bool:
    """Brackets and operators are tokens like others: a feature may fire on `()` or `==`; not so on `...` or `--`."""
    return not set(text) <= frozenset("-–—_.…?*~ ")


def _is_placeholder(text: str) -> bool:
    bare = text.strip(" *_`.!:\"'")
    words = [token for token in words_and_signs(bare[:HEAD].lower()) if token.isalnum()]
    if bare.lower() in _PLACEHOLDERS:
        return True
    if len(bare) > HEAD or not words:
        return False
    is_bracketed = _BRACKETS.get(bare[0]) == bare[-1]
    has_slot = not _SLOT.isdisjoint(words)
    is_form = has_slot and _SLOT_WORDS.issuperset(words)
    is_told = words[0] in _IMPERATIVES and (words[-1] == "here" or (has_slot and len(words) <= 4))
    if is_bracketed:
        return is_form or words[0] in _IMPERATIVES or words[-1] == "here"
    return is_told or (is_form and (words[0] in ("your", "my") or words[-1] in ("here", "goes")))


def _is_error(head: str) -> bool:
    if head[:1] in "<{[":
        if head[:9].lower() == "<!doctype" or head[:5].lower() == "<html" or _is_error_object(head):
            return True
        head = head.lstrip("<[{(")
    tokens = words_and_signs(head)
    if not tokens:
        return False
    return _names_an_error(tokens) or _has_status(tokens) or _says_breakdown([token.lower() for token in tokens])


def _is_error_object(head: str) -> bool:
    """`{"error": ...}`, as servers answer."""
    try:
        value, _ = json.JSONDecoder().raw_decode(head)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and "error" in value


def _names_an_error(tokens: Sequence[str]) -> bool:
    """`Error: ...`, `openai.RateLimitError: ...`, `[ERROR] ...`, `Traceback (most recent call last):`, as printed."""
    for i, token in enumerate(tokens[:12]):
        if token.isalnum() and _ends_failing(token) and token[0].isupper():
            after = tokens[i + 1 : i + 6]
            if token == "Traceback":
                return list(after) == ["(", "most", "recent", "call", "last"]
            return after[:1] == [":"] or (after[:1] == ["]"] and len(tokens) > i + 2)
        if not (token.isalnum() or token in "._"):
            return False
        if tokens[i + 1 : i + 2] not in (["."], ["_"]) and token.isalnum() and i > 1:
            return False
    return False


def _ends_failing(word: str) -> bool:
    return any(word.lower().endswith(end) for end in _FAILING)


def _has_status(tokens: Sequence[str]) -> bool:
    """`HTTP 429: Too Many Requests`, `502 Bad Gateway`, `Error 500`, `Internal Server Error`: a status alone."""
    words = [token.lower() for token in tokens if token.isalnum()]
    rest = [word for word in words if word not in ("http", "https", "error", "status", "code", "1", "0", "2")]
    codes = [word for word in rest if len(word) == 3 and word.isdigit() and word[0] in "45"]
    phrases = {status: status.phrase.lower().replace("-", " ").split() for status in HTTPStatus if status >= 400}
    if codes and rest[0] == codes[0]:
        said = words[words.index(codes[0]) + 1 :]
        known = [phrase for status, phrase in phrases.items() if str(status.value) == codes[0]]
        is_named = words[0] in ("http", "error", "status")
        return any(said[: len(phrase)] == phrase for phrase in known) or (
            is_named and (not said or _ends(tokens, codes))
        )
    return any(words == phrases[status] for status in (HTTPStatus(code) for code in (500, 502, 503, 504)))


def _ends(tokens: Sequence[str], codes: Sequence[str]) -> bool:
    """Whether a sign that ends a heading follows the code."""
    at = list(tokens).index(codes[0])
    return tokens[at + 1] in (":", "-", "–", "—", "(", ".", ",")


def _says_breakdown(tokens: Sequence[str]) -> bool:
    """`Request timed out.`, `the model failed to respond`, `an error occurred while ...`: of a machine."""
    for i, token in enumerate(tokens[:8]):
        if token in _BREAKDOWNS:
            after = tokens[i + 1] if i + 1 < len(tokens) else ""
            if token == "timed":
                after = tokens[i + 2] if i + 2 < len(tokens) else ""
            is_sentence = after in AFTER_A_CLAUSE or (not after and (i > 1 or token == "timed"))
            return not _MACHINERY.isdisjoint(tokens[:i]) and is_sentence
        if not token.isalnum():
            return False
    return False


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
