"""What a run asks of its language models, counted where the stages ask: before the limit, the retry and the cache.

`MeteredClient` stands outside of all other wrappers. From its counts follow how many features must be worked on so that
the limit is always used up, and what is shown of a run while it is on.

How many features are worked on at once: no more than it takes to keep the language model's limit used up.

The limit in the client is the only limit on requests. A feature begins with few requests (its explanation) and goes on
with many (its scores), so several must be on their way. With f features of r requests each, f * r requests are open or
yet to come; `ROUNDS` times the limit keeps enough of them open while the youngest features are still being explained.
More would only take memory, and make an interrupted run finish later. Where that turns out to be too few, because
explaining takes many rounds, the number grows.
"""

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import KW_ONLY, dataclass, field
from math import ceil
from typing import TypeVar

from sae_auto_interp.errors import RefusedRequestError
from sae_auto_interp.protocols import Client, PromptReader
from sae_auto_interp.types import PromptLogprobs, PromptRequest, Request, Response, Usage
from sae_auto_interp.types.spending import NOTHING_SPENT, Spent

AnswerT = TypeVar("AnswerT", Response, PromptLogprobs)


_of_this_feature: ContextVar["RequestCount | None"] = ContextVar("requests_of_this_feature", default=None)


@dataclass(slots=True)
class RequestCount:
    """Requests of one feature so far."""

    n: int = 0


@dataclass(slots=True)
class RequestCounts:
    """Totals over all clients of a run since it was started or resumed."""

    n_open: int = 0
    """Requests that are waiting or in flight just now."""
    n_answered: int = 0
    n_read: int = 0
    """Texts that were rated."""
    n_failed: int = 0
    usage: Usage = field(default_factory=Usage)
    spent: Callable[[], Spent] = lambda: NOTHING_SPENT
    """What the whole run has paid for so far, earlier processes included."""

    @contextmanager
    def of_feature(self) -> Generator[RequestCount, None, None]:
        """Count the requests that are asked inside, by this task and those that it starts."""
        count = RequestCount()
        token = _of_this_feature.set(count)
        try:
            yield count
        finally:
            _of_this_feature.reset(token)


@dataclass(frozen=True, eq=False)
class MeteredClient:
    """Passes requests on and counts them; also a PromptReader, where the wrapped client is one."""

    client: Client
    _: KW_ONLY
    request_counts: RequestCounts = field(default_factory=RequestCounts)

    @property
    def model(self) -> str:
        return self.client.model

    async def generate(self, request: Request) -> Response:
        """Answer one request; raises what the wrapped client raises."""
        response = await self._counted(self.client.generate(request))
        self.request_counts.n_answered += 1
        return response

    async def read(self, request: PromptRequest) -> PromptLogprobs:
        """Rate one text; raises what the wrapped client raises, and RefusedRequestError where it cannot read."""
        if not isinstance(self.client, PromptReader):
            raise RefusedRequestError(f"{self.client.model} does not rate the tokens of a given text")
        found = await self._counted(self.client.read(request))
        self.request_counts.n_read += 1
        return found

    async def close(self) -> None:
        await self.client.close()

    async def _counted(self, answer: Awaitable[AnswerT]) -> AnswerT:
        count = _of_this_feature.get()
        if count is not None:
            count.n += 1
        self.request_counts.n_open += 1
        try:
            found = await answer
        except BaseException:
            self.request_counts.n_failed += 1
            raise
        finally:
            self.request_counts.n_open -= 1
        self.request_counts.usage += found.usage
        return found


ROUNDS = 4


FIRST = 8
"""Features at once before any is finished."""


LEAST = 4


GROWTH = 1.25


class FeatureWindow:
    """The size of the window, which changes while the run goes on."""

    def __init__(self, limit: int, request_counts: RequestCounts) -> None:
        self._limit = limit
        self._request_counts = request_counts
        self._rounds = float(ROUNDS)
        self._n_finished = 0
        self._n_requests = 0

    def size(self) -> int:
        """Features at once; never more than there may be requests, for each has at least one to ask."""
        if not self._n_finished:
            return min(FIRST, self._limit)
        per_feature = max(1.0, self._n_requests / self._n_finished)
        return min(self._limit, max(LEAST, ceil(self._rounds * self._limit / per_feature)))

    def finished(self, n_requests: int) -> None:
        """Note that a feature is done, which took this many requests."""
        self._n_finished += 1
        self._n_requests += n_requests
        size = self.size()
        if n_requests and self._request_counts.n_open < self._limit and size < min(self._limit, self._n_finished):
            self._rounds *= GROWTH
