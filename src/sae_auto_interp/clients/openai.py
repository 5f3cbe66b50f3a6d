"""Any OpenAI-compatible chat endpoint over HTTP: OpenAI itself, vLLM, llama.cpp, SGLang, Ollama, OpenRouter.

One Request becomes one POST to `{base_url}/chat/completions`. Nothing is retried and nothing is limited here:
`RetryingClient` and `LimitedClient` do that, so the pool of connections is unbounded on purpose.
"""

import asyncio
import logging
from dataclasses import dataclass
from functools import cached_property

import httpx2

from sae_auto_interp.clients._api_key import ApiKey
from sae_auto_interp.clients._chat_completions import decode_model_list, decode_reply, encode_request
from sae_auto_interp.clients._http_failures import error_for_status
from sae_auto_interp.clients._paid_calls import refuse_paid_call
from sae_auto_interp.errors import (
    BrokenReplyError,
    ClientError,
    InputError,
    RefusedRequestError,
    TimeoutExceededError,
    UnknownNameError,
    UnreachableError,
)
from sae_auto_interp.types import Request, Response

_log = logging.getLogger(__name__)

_DOES_NOT_LIST_MODELS = (403, 404, 405, 501)
"""403: the key may be allowed to ask the model and not to list models."""


@dataclass(frozen=True, kw_only=True, eq=False, init=False)
class OpenAIClient:
    """Client of one model at one OpenAI-compatible endpoint.

    Raises InputError when built with a `base_url` or `timeout_seconds` that cannot be used, or with an API key
    that cannot be sent.
    """

    base_url: str
    """Where the endpoint is, up to and including its version, e.g. http://127.0.0.1:8000/v1. It is stored and shown:
    no secret belongs in it."""
    model: str = ""
    """Name of the model there; None or empty: the only one that the server lists, which `check` fills in."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the API key, read when the client is built; local servers need none."""
    timeout_seconds: float = 120.0
    """Longest wait for one complete answer, connecting included."""

    def __init__(
        self,
        *,
        base_url: str,
        model: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        timeout_seconds: float = 120.0,
    ) -> None:
        """Written by hand for one reason: `model` may be left open here, and is a `str` to everyone who reads it."""
        _require_usable_url(base_url)
        if not timeout_seconds > 0:
            raise InputError(f"timeout_seconds is {timeout_seconds}; it must be above 0")
        self._set("base_url", base_url)
        self._set("model", model or "")
        self._set("api_key_env", api_key_env)
        self._set("timeout_seconds", timeout_seconds)
        _ = self._key  # read now: a broken key shows before the run starts, and a later change of it does nothing

    async def generate(self, request: Request) -> Response:
        """Answer one request.

        Raises UnreachableError, TimeoutExceededError, RateLimitedError, ServerError, BrokenReplyError (these five are
        worth retrying), NoAccessError, RefusedRequestError or MalformedReplyError, and nothing else.
        """
        if not self.model:
            raise RefusedRequestError(f"no model is named for {self.base_url}; set model, or await check() first")
        response = await self._send("POST", "chat/completions", encode_request(request, self.model))
        if not response.is_success:
            raise self._error(response)
        return decode_reply(response.content, self.model, self._key.quote)

    async def check(self) -> None:
        """Make sure, before a run, that the endpoint answers and has the model; choose its only one if none is named.

        Raises UnreachableError or TimeoutExceededError when nothing answers, UnknownNameError when the server lists
        models and the wanted one is not among them, InputError when no model is named and the server does not list
        exactly one, and the errors of `generate` when it refuses. A server that lists no models is taken at its word.
        """
        listed = await self._listed_models()
        if self.model:
            if listed and not _names_one_of(self.model, listed):
                raise UnknownNameError(f"model at {self.base_url}", self.model, listed)
        elif len(listed) == 1:
            # The one change after building: "the only model there is" is a name that was not known before.
            self._set("model", listed[0])
        else:
            known = ", ".join(sorted(listed)[:12]) if listed else "none"
            raise InputError(f"{self.base_url} lists {len(listed)} models ({known}); set model to the one to ask")

    async def close(self) -> None:
        """Close the connections. The client opens new ones if it is used again, in another event loop too."""
        http = self.__dict__.pop("_http", None)
        if http is not None:
            await http.aclose()

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @cached_property
    def _key(self) -> ApiKey:
        return ApiKey.from_environment(self.api_key_env)

    @cached_property
    def _http(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(headers=self._key.headers(), timeout=None, limits=httpx2.Limits())

    async def _listed_models(self) -> list[str]:
        response = await self._send("GET", "models")
        if response.is_success:
            return decode_model_list(response.content)
        if response.status_code not in _DOES_NOT_LIST_MODELS:
            raise self._error(response)
        await self._require_chat_endpoint()
        _log.info("%s does not list its models (status %d)", self.base_url, response.status_code)
        return []

    async def _require_chat_endpoint(self) -> None:
        """Raise RefusedRequestError if the path is wrong; an empty request is refused anyway, but not with 404."""
        response = await self._send("POST", "chat/completions", b"{}")
        if response.status_code == 404:
            raise self._error(response)

    async def _send(self, method: str, path: str, body: bytes | None = None) -> httpx2.Response:
        url = _endpoint(self.base_url, path)
        refuse_paid_call(url.host)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            async with asyncio.timeout(self.timeout_seconds):
                return await self._http.request(method, url, content=body, headers=headers)
        except (TimeoutError, httpx2.TimeoutException):
            raise TimeoutExceededError(
                f"no answer from {url} within {self.timeout_seconds:g} s; raise timeout_seconds if the server is slow"
            ) from None
        except httpx2.DecodingError as error:
            raise BrokenReplyError(f"{url} sent a body that cannot be decoded: {error}") from None
        except httpx2.RequestError as error:
            cause = self._key.quote(str(error)) or type(error).__name__
            raise UnreachableError(
                f"no connection to {url}, or it broke ({cause}): is the server running?",
                was_sent=not isinstance(error, httpx2.ConnectError),
            ) from error

    def _error(self, response: httpx2.Response) -> ClientError:
        return error_for_status(response, self._key.quote, self._advice(response.status_code))

    def _advice(self, status: int) -> str:
        if status in (401, 403) and not self._key:
            return f" (no API key was sent: the environment variable {self.api_key_env} is not set)"
        if status == 404 and "/v1" not in self.base_url:
            return f" (base_url has no /v1; most servers answer at {self.base_url.rstrip('/')}/v1)"
        return ""


def _require_usable_url(base_url: str) -> None:
    example = "write for example http://127.0.0.1:8000/v1"
    try:
        url = httpx2.URL(base_url)
    except httpx2.InvalidURL as error:
        raise InputError(f"base_url is not a URL ({error}); {example}") from None
    if url.userinfo:
        raise InputError("base_url holds a user name or password; put the secret into the variable of api_key_env")
    if url.scheme not in ("http", "https") or not url.host:
        raise InputError(f"base_url {base_url!r} is not an http or https address; {example}")


def _endpoint(base_url: str, path: str) -> httpx2.URL:
    """`base_url` with the path appended; a query, as in ?api-version=..., stays."""
    url = httpx2.URL(base_url)
    return url.copy_with(path=f"{url.path.rstrip('/')}/{path}")


def _names_one_of(model: str, listed: list[str]) -> bool:
    """Ollama lists `name` as `name:latest` and Gemini as `models/name`; both answer to the bare name."""
    return not {model, f"{model}:latest", f"models/{model}"}.isdisjoint(listed)
