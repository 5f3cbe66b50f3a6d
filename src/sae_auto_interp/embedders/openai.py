"""Any `/v1/embeddings` endpoint over HTTP: OpenAI itself, vLLM, llama.cpp, Ollama, text-embeddings-inference.

In: texts. Out: their vectors, normalised here, since not every server does it. Texts travel `n_per_request` at a time
and at most `max_concurrency` requests are open at once. What may pass with time (429, 5xx, a broken connection) is
asked again with growing pauses, as `clients.retry` explains.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float32

from sae_auto_interp.clients.http.api_key import ApiKey
from sae_auto_interp.clients.http.endpoint import HttpEndpoint
from sae_auto_interp.clients.http.json_values import JsonObject, as_list, as_object
from sae_auto_interp.clients.wrappers.waiting import GIVE_UP_SECONDS, refuse_long_wait
from sae_auto_interp.errors import ClientError, ConfigError, MalformedReplyError, NotStoredError
from sae_auto_interp.types import Array
from sae_auto_interp.types.spending import may_spend

_log = logging.getLogger(__name__)
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenAIEmbedder:
    """Raises `InputError` / `ConfigError` when built with an address or a number that cannot be used."""

    base_url: str
    """Where the endpoint is, up to and including its version, e.g. http://127.0.0.1:8000/v1."""
    model: str
    """Name of the model there."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the API key; local servers need none."""
    n_per_request: int = 64
    """Texts per request."""
    max_concurrency: int = 4
    """Requests in flight at most."""
    attempts: int = 6
    """How often one request is asked at most."""
    timeout_seconds: float = 120.0
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep, repr=False)

    def __post_init__(self) -> None:
        for name in ("n_per_request", "max_concurrency", "attempts"):
            if getattr(self, name) < 1:
                raise ConfigError(f"embedders.openai.{name}={getattr(self, name)}; give at least 1")
        if not self.model:
            raise ConfigError("embedders.openai.model is empty; name the model to ask")
        _ = self._endpoint  # made now: a wrong address shows before the run starts

    @property
    def name(self) -> str:
        return f"openai:{self.model}"

    async def embed(self, texts: Sequence[str]) -> Float32[Array, "n d"]:
        """Raises `ClientError` subclasses, and EndpointLostError where the server asks for too long a wait."""
        if not may_spend():
            raise NotStoredError(f"vectors of {self.model} are not stored")
        places = asyncio.Semaphore(self.max_concurrency)

        async def vectors_of(some: Sequence[str]) -> Array:
            async with places:
                return await self._retried(some)

        starts = range(0, len(texts), self.n_per_request)
        found = await asyncio.gather(*(vectors_of(texts[i : i + self.n_per_request]) for i in starts))
        if len({part.shape[1] for part in found}) > 1:
            raise MalformedReplyError(f"{self.model} gave vectors of different lengths")
        return np.concatenate(found) if found else np.zeros((0, 0), np.float32)

    async def close(self) -> None:
        """Close the connections; new ones are opened if it is used again."""
        await self._endpoint.close()

    @cached_property
    def _endpoint(self) -> HttpEndpoint:
        key = ApiKey.from_environment(self.api_key_env)
        return HttpEndpoint(
            base_url=self.base_url, key=key, headers=key.headers(), timeout_seconds=self.timeout_seconds
        )

    async def _retried(self, texts: Sequence[str]) -> Array:
        for attempt in range(1, self.attempts):
            try:
                return await self._ask(texts)
            except ClientError as error:
                refuse_long_wait(self.name, error, GIVE_UP_SECONDS)
                if not error.is_retryable:
                    raise
                seconds = _wait_seconds(attempt, error)
                _log.info("attempt %d of %d failed, next in %.1f s: %s", attempt, self.attempts, seconds, error)
            await self.sleep(seconds)
        return await self._ask(texts)

    async def _ask(self, texts: Sequence[str]) -> Array:
        body = json.dumps({"model": self.model, "input": list(texts), "encoding_format": "float"}).encode()
        response = await self._endpoint.send("POST", "embeddings", body)
        return _vectors(self._endpoint.object_in(response), len(texts))


def _vectors(reply: JsonObject, n: int) -> Array:
    """The vectors of a reply in the order of the texts, each of length 1."""
    entries = [as_object(entry) for entry in as_list(reply.get("data"))]
    by_index = {entry.get("index"): as_list(entry.get("embedding")) for entry in entries}
    if len(entries) != n or set(by_index) != set(range(n)):
        raise MalformedReplyError(f"the server gave {len(entries)} vectors for {n} texts")
    try:
        vectors = np.array([by_index[i] for i in range(n)], dtype=np.float32)
    except (ValueError, TypeError):
        raise MalformedReplyError("the server's vectors are not lists of numbers of one length") from None
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True) if vectors.ndim == 2 else np.zeros(1)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise MalformedReplyError("one of the server's vectors is empty, zero or not finite")
    return vectors / lengths


def _wait_seconds(attempt: int, error: ClientError) -> float:
    """Uniform between 0 and a bound that doubles, on top of what the server asked for. It changes no result."""
    bound = min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2.0 ** min(attempt - 1, 60))
    asked = error.retry_after_seconds
    return float(np.random.default_rng().uniform(0.0, bound)) + (asked or 0.0)
