"""What a server does not take is found out from its refusals, in whatever words, and left out from then on.

A request that is refused (400, 422, 500, 501) is sent again without one thing after the other that it can do without:
what the words name first, then the schema, the system role, and so on. Only an answer teaches: what was left out last
was then refused, and so was what the server named itself. Who was refused while another request learnt something is
sent again without that first, so a hundred refusals of one moment are all answered, and none tries everything.

What a server has answered to before is not given up for one refusal: a content filter refuses single requests, and a
500 may be a bad moment. Then three requests must have been answered without it, and none with it in between. Refusals
in the same words that nothing helped against are taken as they are after a few.
"""

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeAlias, TypeVar

from sae_auto_interp.clients.http.errors_inside import Refusal
from sae_auto_interp.clients.http.json_values import JsonObject
from sae_auto_interp.clients.http.refused_parameters import by_mention, is_about_no_part, refused_parameter
from sae_auto_interp.errors import ClientError, PromptTooLongError

AnswerT = TypeVar("AnswerT")
Send: TypeAlias = Callable[[frozenset[str]], Awaitable[AnswerT | Refusal]]
"""Sends a request without some things."""
Tell: TypeAlias = Callable[[str, Refusal], None]
"""Is told what is left out from now on, and by which refusal."""

_MAY_BE_ABOUT_A_PART = (400, 422, 500, 501)
_MAY_BE_A_BAD_MOMENT = (500, 501)
_TIMES_TO_UNLEARN = 3
"""Requests that must be answered without what was taken before."""
_TIMES_BROKEN = 3
"""How often one request must be broken over (500) before what the server took so far is suspected."""
_TIMES_IN_VAIN = 5
"""Requests for which nothing helped against the same words."""
_MANY = 10_000


class Refusals:
    """What one server does not take; shared by all requests to it."""

    def __init__(self, tell: Tell) -> None:
        self.known: set[str] = set()
        """Names of parameters, and of what `_parameters.parts_of` knows."""
        self._tell = tell
        self._taken: set[str] = set()
        self._answered_without = Counter[str]()
        self._in_vain = Counter[tuple[int, str]]()
        self._broken = Counter[int]()

    async def ask(self, parts: Sequence[str], send: Send[AnswerT], is_tried: bool = True) -> AnswerT:
        """The answer to a request with these parts, in the order in which it can do without them.

        Not `is_tried`: only what the server names is left out. Raises the first refusal's error where nothing helps.
        """
        attempt = self.attempt(parts, is_tried)
        while True:
            answer = await send(attempt.left_out())
            if not isinstance(answer, Refusal):
                attempt.answered()
                return answer
            if not attempt.goes_on(answer):
                raise attempt.error or answer.error

    def attempt(self, parts: Sequence[str], is_tried: bool = True) -> "Attempt":
        """For who sends and waits himself."""
        return Attempt(self, parts, is_tried)

    def took(self, parts: Collection[str]) -> None:
        """Note that a request with these was answered."""
        self._taken.update(parts)
        for part in parts:
            self._answered_without.pop(part, None)

    def answered_without(self, part: str, refusal: Refusal, is_named: bool) -> None:
        """Note that a refused request was answered once this was left out; it is so from now on, or may be soon."""
        if part in self.known:
            return
        self._answered_without[part] += 1
        if is_named or part not in self._taken or self._answered_without[part] >= _TIMES_TO_UNLEARN:
            self.known.add(part)
            self._in_vain.clear()
            self._tell(part, refusal)

    def may_be_about_a_part(self, refusal: Refusal, parts: Sequence[str]) -> bool:
        """Whether it is worth to try what is refused."""
        if refusal.status not in _MAY_BE_ABOUT_A_PART or isinstance(refusal.error, PromptTooLongError):
            return False
        if is_about_no_part(refusal.said) or self._in_vain[_words(refusal)] >= _TIMES_IN_VAIN:
            return False
        if refusal.status in _MAY_BE_A_BAD_MOMENT and self._taken.issuperset(parts):
            return self._n_broken(refusal.sent) >= _TIMES_BROKEN
        return True

    def note_in_vain(self, refusal: Refusal) -> None:
        self._in_vain[_words(refusal)] += 1

    def _n_broken(self, sent: JsonObject) -> int:
        if len(self._broken) > _MANY:
            self._broken.clear()
        name = hash(repr(sent))
        self._broken[name] += 1
        return self._broken[name]


class Attempt:
    """One request on its way to an answer."""

    def __init__(self, refusals: Refusals, parts: Sequence[str], is_tried: bool) -> None:
        self.error: ClientError | None = None
        """The error of the first refusal since the last thing learnt."""
        self._refusals = refusals
        self._parts = parts
        self._is_tried = is_tried
        self._known: frozenset[str] = frozenset()
        self._tried: dict[str, bool] = {}
        """What is left out beside what is known, in order, and whether the server named it."""
        self._last: Refusal | None = None

    def left_out(self) -> frozenset[str]:
        """What the request is sent without next."""
        self._known = frozenset(self._refusals.known)
        return self._known.union(self._tried)

    def answered(self) -> None:
        """An answer came: it teaches what must be left out, and what need not be."""
        self._refusals.took([part for part in self._parts if part not in self._known and part not in self._tried])
        for number, (part, is_named) in enumerate(self._tried.items(), 1):
            if self._last is not None and (is_named or number == len(self._tried)):
                self._refusals.answered_without(part, self._last, is_named)

    def goes_on(self, refusal: Refusal) -> bool:
        """Whether to send once more after a refusal, without more than before."""
        self._last = refusal
        if self._refusals.known - self._known:  # learnt by another meanwhile: ask again without that, and no less
            self._tried.clear()
            self.error = None
            return True
        self.error = self.error or refusal.error
        named = refused_parameter(refusal.status, refusal.said, refusal.sent)
        left = [part for part in self._parts if part not in self._known and part not in self._tried]
        if named is not None and named not in self._tried:
            self._tried[named] = True
            return True
        if not self._is_tried or (not self._tried and not self._refusals.may_be_about_a_part(refusal, left)):
            return False
        if refusal.status not in _MAY_BE_ABOUT_A_PART:  # another error on the way, which may pass
            self.error = refusal.error if refusal.error.is_retryable or refusal.error.may_heal else self.error
            return False
        following = by_mention(left, refusal.said)
        if not following:
            if self._tried:
                self._refusals.note_in_vain(refusal)
            return False
        self._tried[following[0]] = False
        return True


def _words(refusal: Refusal) -> tuple[int, str]:
    """What is the same in refusals of one kind: without numbers and names that hold some."""
    return refusal.status, " ".join(re.findall(r"(?<![\w-])[A-Za-z_]+(?![\w-])", refusal.said[:2000]))[:200]
