"""Keeps to a provider's limits of requests and of tokens per minute, evenly over the minute.

Two token buckets (one holds requests, one tokens) that fill at the allowed rate and hold no more than `burst_seconds`
of it: a minute's allowance spent in its first second is what providers, who look at shorter windows, answer with 429.
The tokens of a request are not known beforehand; a guess is taken (4 bytes per token, and a whole answer, as providers
count it), and put right when the answer says what it was. A bucket may be overdrawn by one large request, which then
has to be waited for.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property

from sae_auto_interp.clients.wrappers.slots import Places
from sae_auto_interp.clients.wrappers.wrapper import AnswerT, Ask, Question, Wrapper
from sae_auto_interp.errors import InputError
from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Request

BYTES_PER_TOKEN = 4
ROUNDING = 1e-6
"""A bucket filled for as long as was calculated may lack so much; waiting for it would never end."""


class _Bucket:
    """Holds what may be spent now; negative while overdrawn."""

    def __init__(self, per_minute: float, burst_seconds: float, clock: Callable[[], float]) -> None:
        self._per_second = per_minute / 60.0
        self._capacity = max(1.0, self._per_second * burst_seconds)
        self._clock = clock
        self._level, self._at = self._capacity, clock()

    def seconds_until(self, amount: float) -> float:
        """Until `amount` is there, or as much as the bucket can hold."""
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._at) * self._per_second)
        self._at = now
        missing = min(amount, self._capacity) - self._level
        return missing / self._per_second if missing > ROUNDING else 0.0

    def take(self, amount: float) -> None:
        """Spend; a negative amount gives back."""
        self._level -= amount


@dataclass(frozen=True, eq=False)
class RateLimitClient(Wrapper):
    """Lets requests through to the wrapped client at a bounded rate, in order of arrival, but for those asked inside
    `first_in_line`; None bounds nothing.

    Raises InputError when built with a rate that is not above 0.
    """

    client: Client
    _: KW_ONLY
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    burst_seconds: float = 1.0
    """So much of the allowance may be saved up."""
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep, repr=False)

    def __post_init__(self) -> None:
        for name, rate in (
            ("requests_per_minute", self.requests_per_minute), ("tokens_per_minute", self.tokens_per_minute)
        ):  # fmt: skip
            if rate is not None and not rate > 0:
                raise InputError(f"{name} is {rate}; it must be above 0, or left out")

    async def close(self) -> None:
        """Close the wrapped client; a later use may be in another event loop."""
        vars(self).pop("_turn", None)
        await self.client.close()

    async def _around(self, question: Question, ask: Ask[AnswerT]) -> AnswerT:
        guess = _guessed_tokens(question)
        turn = self._turn
        await turn.enter()
        try:
            await self._pass(self._requests, 1.0)
            await self._pass(self._tokens, guess)
        finally:
            turn.leave()
        answer = await ask()
        if self._tokens is not None and not answer.usage.n_uncounted:
            self._tokens.take(answer.usage.prompt_tokens + answer.usage.completion_tokens - guess)
        return answer

    async def _pass(self, bucket: _Bucket | None, amount: float) -> None:
        if bucket is None:
            return
        while (seconds := bucket.seconds_until(amount)) > 0:
            await self.sleep(seconds)
        bucket.take(amount)

    @cached_property
    def _turn(self) -> Places:
        return Places(1)

    @cached_property
    def _requests(self) -> _Bucket | None:
        return self._bucket(self.requests_per_minute)

    @cached_property
    def _tokens(self) -> _Bucket | None:
        return self._bucket(self.tokens_per_minute)

    def _bucket(self, per_minute: float | None) -> _Bucket | None:
        return None if per_minute is None else _Bucket(per_minute, self.burst_seconds, self.clock)


def _guessed_tokens(question: Question) -> float:
    if not isinstance(question, Request):
        return len(question.text) / BYTES_PER_TOKEN
    n_bytes = sum(len(message.content) for message in question.messages)
    return n_bytes / BYTES_PER_TOKEN + question.sampling.max_tokens
