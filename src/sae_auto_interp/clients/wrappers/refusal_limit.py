"""Stops asking an endpoint that refuses everything, so that a whole run of questions is not spent on one mistake.

A refusal is the server's answer to a request that no repetition helps (`RefusedRequestError`): its words are compared
without what differs from request to request, the words that hold a digit (counts, identifiers). Any answer in between
ends the streak; what says nothing of the request (429, 5xx, no connection) neither ends nor lengthens it. A prompt that
is too long is left to whoever can shorten it (`pipeline.too_long`), and an answer that cannot be read is no refusal.
"""

import re
from dataclasses import KW_ONLY, dataclass, field

from sae_auto_interp.clients.wrappers.wrapper import AnswerT, Ask, Question, Wrapper
from sae_auto_interp.errors import (
    EndpointLostError,
    InputError,
    MalformedReplyError,
    PromptTooLongError,
    RefusedRequestError,
)
from sae_auto_interp.protocols import Client

COMPARED_CHARACTERS = 400
"""So much of a refusal's text is compared."""
_WORD = re.compile(r"\w+")


@dataclass(slots=True)
class _Streak:
    """Refusals in the same words since the last answer."""

    words: str = ""
    n: int = 0
    lost: str | None = None
    """Why nothing is asked any more."""


@dataclass(frozen=True, eq=False)
class RefusalLimitClient(Wrapper):
    """Raises EndpointLostError from the refusal on that is the last of `max_same_refusals` in a row.

    Raises InputError when built with less than one.
    """

    client: Client
    _: KW_ONLY
    max_same_refusals: int = 20
    _streak: _Streak = field(default_factory=_Streak, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.max_same_refusals < 1:
            raise InputError(f"max_same_refusals is {self.max_same_refusals}; it must be at least 1")

    async def _around(self, question: Question, ask: Ask[AnswerT]) -> AnswerT:
        streak = self._streak
        if streak.lost is not None:
            raise EndpointLostError(streak.lost)
        try:
            answer = await ask()
        except PromptTooLongError:
            raise
        except RefusedRequestError as error:
            self._count(error)
            raise
        except MalformedReplyError:
            streak.n = 0
            raise
        streak.n = 0
        return answer

    def _count(self, error: RefusedRequestError) -> None:
        streak, words = self._streak, _compared(str(error))
        streak.n = streak.n + 1 if words == streak.words else 1
        streak.words = words
        if streak.lost is None and streak.n >= self.max_same_refusals:
            streak.lost = (
                f"{self.model} refused {streak.n:,} requests in a row in the same words ({error}); what is done is "
                "kept: once this is mended the same command goes on, and with --retry-failed what was refused is asked "
                "again"
            )
        if streak.lost is not None:
            raise EndpointLostError(streak.lost) from error


def _compared(message: str) -> str:
    """The words that all refusals of one kind share."""
    words = _WORD.findall(message[:COMPARED_CHARACTERS])
    return " ".join(word for word in words if not any(map(str.isdigit, word)))
