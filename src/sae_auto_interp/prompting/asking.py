"""Asking a language model for an answer that can be read, and asking once more where a unit of work was opened again.

A question is asked once: an answer that cannot be read is a failure, and what is paid stays paid. `--retry-failed`
opens such units. Their answers are stored, so the same questions would get the same answers; a unit that was opened n
times may therefore put a question whose answer cannot be read up to n times more, each time with another seed, which
makes it a new question to servers and to the cache of answers. Questions whose answer can be read are not put again.

How often a unit was opened is not said in each call but in a context variable, as with `spending`.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

from sae_auto_interp.errors import ClientError, NotStoredError
from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Failure, Request, Response
from sae_auto_interp.types.spending import may_spend

SEED_STEP = 1_000_003
"""Between the seeds of a question's attempts; components count theirs in ones."""

_times_opened: ContextVar[int] = ContextVar("times_opened", default=0)


@contextmanager
def asking_again(times: int) -> Generator[None, None, None]:
    """Inside, a question whose answer cannot be read is put again up to this many times."""
    token = _times_opened.set(times)
    try:
        yield
    finally:
        _times_opened.reset(token)


async def answered(client: Client, request: Request, is_readable: Callable[[Response], bool]) -> Response:
    """The first answer that can be read, or the last one; its usage is that of all attempts.

    Raises `ClientError` subclasses, as the client does.
    """
    response = await client.generate(request)
    for attempt in range(1, 1 + _times_opened.get()):
        if is_readable(response):
            break
        spent = response.usage
        try:
            response = await client.generate(_anew(request, attempt))
        except NotStoredError:
            if may_spend():
                raise
            break  # it was not needed when this was asked
        response = replace(response, usage=spent + response.usage)
    return response


def unanswered(error: ClientError, room: str) -> Failure:
    """The failure of a score's question; `room` is the setting that gives its answer more tokens."""
    return Failure("score", error.kind, str(error).replace("raise max_tokens", f"raise {room}"))


def _anew(request: Request, attempt: int) -> Request:
    seed = (request.sampling.seed or 0) + SEED_STEP * attempt
    return replace(request, sampling=replace(request.sampling, seed=seed))
