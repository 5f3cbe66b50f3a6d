"""Sentences in which a model refuses, excuses itself, or says that it found nothing.

They are told from phrases about such sentences by what follows: "I don't know what this is" goes on as a clause does,
"I don't know phrases" names a kind of text.
"""

from collections.abc import Sequence
from itertools import pairwise


def words_of(text: str) -> frozenset[str]:
    """The words that bars separate."""
    return frozenset(text.split("|"))


_FIRST_PERSON = words_of("i|i'm|i'll|i've|i'd|we|we're|we'll|we've")
_NEGATIONS = words_of(
    "not|cannot|can't|cant|couldn't|don't|dont|didn't|won't|wouldn't|haven't|unable|decline|refuse|never|ain't|"
    "insufficient|must"
)
_BETWEEN = words_of(
    "am|are|was|were|do|did|can|could|will|would|have|be|been|really|simply|just|currently|unfortunately|still|also|"
    "regret|respectfully|truly|honestly|actually|personally|'m|feel|afraid|sorry|that|to|say|but|it|'re|not"
)
_KINDS_OF_TEXT = words_of(
    "phrase|phrases|statement|statements|expression|expressions|sentence|sentences|clause|clauses|construction|"
    "constructions|utterance|utterances|contraction|contractions|form|forms|pattern|patterns|message|messages|"
    "response|responses|reply|replies|disclaimer|disclaimers|token|tokens|word|words|verb|verbs|and|or|in|as"
)
"""After a negation in the first person: what is spoken of, not said."""
_SORRY = frozenset({"sorry", "afraid"})
_INTENSELY = words_of("so|very|really|truly|deeply|terribly|sincerely|do|must|sincere|humble|deepest")
_FILLERS = words_of(
    "oh|well|ok|okay|hmm|hm|um|hello|hi|sure|certainly|however|but|and|so|note|answer|alas|regrettably|unfortunately|"
    "sadly|final|honestly|actually"
)
_SIGNS = frozenset(",.!?:;-–—…*")
_LINKS = words_of("but|however|that|for|about|to|i|we|it|this|there|if|because|as|not|my|your|the|and|at")
AFTER_A_CLAUSE = words_of(
    "what|which|who|whether|how|why|when|where|while|that|this|these|with|without|from|to|for|of|by|on|at|after|before|"
    "due|because|if|as|any|enough|the|a|an|your|it|please|try|and|but|out|about|there|such|during|unexpectedly|so"
    "|.|,|;|:|!|?|(|-|–|—|…"
)
"""What may follow a finished clause, and hardly a noun that is one half of a compound."""
_TO_FIND = words_of(
    "determine|determined|tell|say|identify|identified|find|found|infer|inferred|explain|explained|discern|discerned|see|"
    "generate|generated|provide|provided|help|assist|answer|answered|comply|interpret|interpreted|describe|described|"
    "conclude|summarize|summarise|produce|detect|establish|pin|know|give|fulfill|fulfil|complete|process|access"
)
_FINDINGS = words_of(
    "pattern|patterns|explanation|commonality|commonalities|theme|similarity|similarities|thread|regularity"
)
_EVIDENCE = words_of("information|context|data|examples|detail|details|excerpts|text|input")
_STUDIED = words_of(
    "feature|neuron|pattern|excerpts|excerpt|examples|texts|tokens|explanation|meaning|latent|unit|data|context"
)
_IT = words_of("it|it's|this|that|there|there's")
_NOT_PLAIN = words_of("unclear|impossible|uncertain|inconclusive|undeterminable|ambiguous|unknown")
_PLAIN = words_of("clear|possible|obvious|evident|certain|known|apparent|sure|discernible")
_HARD = words_of("hard|difficult|impossible|challenging|tricky")
_UNABLE = words_of("unable|cannot|can't|could|couldn't|impossible|hard|difficult|failed|not|can")
_SUPPOSE = words_of("think|believe|guess|fear|suppose")
_MODELS = words_of("model|ai|assistant|chatbot|bot")
_ELSEWHERE = tuple(
    words_of(
        "lo siento,|no puedo |je suis désolé|je ne peux pas|es tut mir leid|leider kann ich|ich kann nicht|"
        "ich kann das nicht|não posso|non posso|mi dispiace,|к сожалению, я|я не могу|很抱歉|我无法|我不能|"
        "申し訳ありません|すみませんが|죄송합니다만|죄송하지만"
    )
)
"""How refusals begin in other languages."""


_GIVING = words_of("provide|share|send|give|paste|upload|supply|include|specify|attach|add|show")
_GIVEN = words_of("provided|given|shared|included|attached|supplied|sent|shown|pasted")
_ASKING = words_of("how|what|which|could|can|would|will|do|may|shall|should|is|are")
_LOOKING = words_of("analyze|analyse|look|think|examine|start|begin|break|consider|review")
_INABILITY_ELSEWHERE = {
    "désolé": ("je ne peux", "je ne suis pas", "impossible"),
    "desculp": ("não posso", "não consigo", "não é possível"),
    "извини": ("не могу", "не знаю"),
    "申し訳": ("できません", "できかねます", "わかりません"),
    "죄송": ("없습니다", "어렵습니다"),
}
"""How apologies begin in other languages, and what makes refusals of them."""


def is_refusal(tokens: Sequence[str], head: str, *, is_quoted: bool) -> bool:
    """Whether a text begins as a model that excuses itself does; `tokens` are those of its head in small letters."""
    if head.lower().startswith(_ELSEWHERE) or (
        head.startswith(("抱歉", "对不起")) and ("无法" in head or "不能" in head)
    ):
        return True
    small = head.lower()
    if any(
        small.startswith(sorry) and any(map(small.__contains__, unable))
        for sorry, unable in _INABILITY_ELSEWHERE.items()
    ):
        return True
    tokens = _without_fillers(tokens)
    if _declines(tokens):
        return len(tokens) > 4 or not is_quoted
    if list(tokens[:2]) == ["as", "an"] or list(tokens[:2]) == ["as", "a"]:
        return bool({"ai", "assistant", "model"} & set(tokens[2:6])) and _declines_later(tokens[2:])
    n = _apology_length(tokens)
    return n > 0 and _goes_on_refusing(tokens[n:], _FIRST_PERSON & set(tokens[:n]), is_quoted)


def finds_nothing(tokens: Sequence[str]) -> bool:
    """Whether a text says that no explanation was found."""
    tokens = _without_fillers(tokens)
    first, second = (*tokens, "", "")[:2]
    if first in _IT and _says_unclear(tokens[1:7]):
        return True
    if first in _UNABLE and _fails_to_find(tokens):
        return True
    if first in ("the", "this", "these", "its") and not _STUDIED.isdisjoint(tokens[1:4]):
        return _says_unclear(tokens[2:9]) or _finds_none(tokens[2:9]) or "nothing in common" in " ".join(tokens[:14])
    if first in ("insufficient", "inadequate") or (first == "not" and second == "enough"):
        return not _EVIDENCE.isdisjoint(tokens[1:3])
    return _finds_none(
        tokens if first == "no" else tokens[1:] if first in _IT else tokens[2:] if second == "is" else ()
    )


def talks_back(tokens: Sequence[str]) -> bool:
    """Whether a text speaks to whoever asked: asks for the examples, offers help, or says what it is about to do."""
    tokens = _without_fillers(tokens)
    first, second = (*tokens, "", "")[:2]
    if first in _ASKING and tokens[-1] == "?" and len(tokens) < 40:
        return not {"you", "your"}.isdisjoint(tokens) and not ({"i", "me", "my", "please"} | _GIVING).isdisjoint(tokens)
    if first == "please" and second in _GIVING:
        return _ends_at(tokens[2:9], _EVIDENCE | _STUDIED)
    if first in ("you", "you've", "you're") and not _NEGATIONS.isdisjoint(tokens[1:4]):
        return not _GIVEN.isdisjoint(tokens[2:6])
    if first == "no" and not (_EVIDENCE | _STUDIED).isdisjoint(tokens[1:4]):
        return not {"was", "were", "been"}.isdisjoint(tokens[2:6]) and not _GIVEN.isdisjoint(tokens[3:8])
    if first in _FIRST_PERSON and not {"happy", "glad", "ready", "here"}.isdisjoint(tokens[1:4]):
        return any(a == "to" and b in _TO_FIND for a, b in pairwise(tokens[2:8]))
    is_plan = first == "let's" or (first == "let" and second in ("me", "us"))
    return is_plan and _ends_at(tokens[1:5], _LOOKING)


def _ends_at(tokens: Sequence[str], words: frozenset[str]) -> bool:
    """Whether one of the words is there, and what follows it is hardly a noun."""
    return any(word in words and after in (AFTER_A_CLAUSE | {""}) for word, after in pairwise((*tokens, "")))


def _declines(tokens: Sequence[str]) -> bool:
    """`I cannot ...`, `I'm really not able to ...`, `We must decline ...`."""
    if not tokens or tokens[0] not in _FIRST_PERSON:
        return False
    if tokens[1:2] and tokens[1] in _SUPPOSE:
        return _declines([token for token in tokens[2:] if token != "that"])
    if list(tokens[1:3]) in (["need", "more"], ["need", "additional"], ["require", "more"]):
        return not _EVIDENCE.isdisjoint(tokens[3:6])
    if (tokens[0] == "i'm" or list(tokens[:2]) == ["i", "am"]) and not _MODELS.isdisjoint(tokens[2:8]):
        return True
    for i, token in enumerate(tokens[1:7], 1):
        if token in _NEGATIONS:
            return _is_said(tokens[i + 1 :])
        if token not in _BETWEEN:
            return False
    return False


def _is_said(rest: Sequence[str]) -> bool:
    """Whether what follows a negation carries the sentence on, and is not a name for such sentences."""
    if not rest or rest[0] in ".!;":
        return True
    return rest[0].isalnum() and rest[0] not in _KINDS_OF_TEXT and not (rest[1:2] and rest[1] in _KINDS_OF_TEXT - {
        "in", "as", "and", "or", "to", "pattern", "patterns"
    })  # fmt: skip


def _fails_to_find(tokens: Sequence[str]) -> bool:
    """`Unable to determine ...`, `Cannot be determined ...`, `not possible to tell ...`, and then a clause's end."""
    if tokens[0] in ("can", "could") and tokens[1:2] != ["not"]:
        return False
    for i, token in enumerate(tokens[1:5], 1):
        if token in _TO_FIND:
            after = tokens[i + 1] if i + 1 < len(tokens) else ""
            return not after or after in AFTER_A_CLAUSE or after in _FINDINGS
    return False


def _declines_later(tokens: Sequence[str]) -> bool:
    return any(_declines(tokens[i:]) for i, token in enumerate(tokens[:40]) if token in _FIRST_PERSON)


def _apology_length(tokens: Sequence[str]) -> int:
    """Tokens of `sorry`, `I am so sorry`, `my sincere apologies`, `I apologize`; 0 where there is no apology."""
    for i, token in enumerate(tokens[:5]):
        is_by_me = i > 0 and (tokens[0] in _FIRST_PERSON or tokens[0] == "my")
        if token in _SORRY or token in ("apologies", "apology"):
            return i + 1 if is_by_me or (i == 0 and token != "afraid") else 0
        if token in ("apologize", "apologise", "regret"):
            return i + 1 if is_by_me else 0
        if token not in _FIRST_PERSON | _INTENSELY | {"my", "am"}:
            return 0
    return 0


def _goes_on_refusing(rest: Sequence[str], by_me: object, is_quoted: bool) -> bool:
    """After an apology: a clause. A list of further words, or a name for apologies, is an explanation of them."""
    words = [token for token in rest if token not in _SIGNS]
    if not words:
        return bool(by_me) and not is_quoted
    if rest[0] in ".!" and by_me:
        return True
    follows = words[0] in _LINKS - {"and", "as", "the", "to", "for", "about", "at", "i", "we", "it", "not"}
    if by_me and (follows or (rest[0] not in _SIGNS and words[0] in _LINKS - {"and", "as", "the"})):
        return True
    return _declines_later(rest) or any(finds_nothing(words[i:]) for i in range(min(3, len(words)))) or (
        not by_me
        and (words[0] == "but" or words[0] in _IT)
        and not (_FIRST_PERSON | {"not", "isn't", "can't", "cannot"}).isdisjoint(words[1:6])
    )  # fmt: skip


def _says_unclear(tokens: Sequence[str]) -> bool:
    for i, token in enumerate(tokens):
        if token in _NOT_PLAIN:
            return True
        after = tokens[i + 1 :]
        if token in ("not", "isn't", "wasn't") and not _PLAIN.isdisjoint(after[:3]):
            return True
        if token in _HARD and after[:1] == ["to"] and not _TO_FIND.isdisjoint(after[1:3]):
            return True
    return False


def _finds_none(tokens: Sequence[str]) -> bool:
    """`no (clear, common ...) pattern`, and nothing that makes another thing of it."""
    for i, token in enumerate(tokens[:7]):
        if token in ("no", "not", "isn't"):
            for j, found in enumerate(tokens[i + 1 : i + 6], i + 1):
                if found in _FINDINGS:
                    after = (*tokens, "")[j + 1] if j + 1 <= len(tokens) else ""
                    return (
                        not after or after in AFTER_A_CLAUSE or after in ("available", "found", "here", "in", "among")
                    )
    return False


def _without_fillers(tokens: Sequence[str]) -> Sequence[str]:
    n = 0
    while n < len(tokens) and (tokens[n] in _FILLERS or (n > 0 and tokens[n] in _SIGNS)):
        n += 1
    return tokens[n:]
