"""Anthropic's Messages API over HTTP (https://docs.anthropic.com/en/api/messages, version 2023-06-01).

One Request becomes one POST to `{base_url}/v1/messages`. Overload (529) and rate limits (429, with Retry-After) are
errors worth retrying. There are no log-probabilities and no seed; equal requests may be answered differently.
"""

import logging
from dataclasses import dataclass
from functools import cached_property

from sae_auto_interp.clients._messages_api import decode_message, encode_message
from sae_auto_interp.clients.http.api_key import ApiKey
from sae_auto_interp.clients.http.chat_completions import as_ascii, decode_model_list
from sae_auto_interp.clients.http.endpoint import HttpEndpoint
from sae_auto_interp.clients.http.refused_parameters import refused_parameter, without_refused
from sae_auto_interp.errors import InputError, UnknownNameError
from sae_auto_interp.types import Request, Response

_log = logging.getLogger(__name__)

API_VERSION = "2023-06-01"


@dataclass(frozen=True, kw_only=True, eq=False)
class AnthropicClient:
    """Client of one of Anthropic's models.

    Raises InputError when built with a `base_url` or `timeout_seconds` that cannot be used, or without an API key.
    """

    model: str
    """Its name, e.g. claude-haiku-4-5."""
    base_url: str = "https://api.anthropic.com"
    """Where the API is, without /v1. It is stored and shown: no secret belongs in it."""
    api_key_env: str = "ANTHROPIC_API_KEY"
    """Environment variable that holds the API key, read when the client is built."""
    timeout_seconds: float = 120.0
    """Longest wait for one complete answer, connecting included."""

    def __post_init__(self) -> None:
        if not self._http.key:
            raise InputError(f"client.kind anthropic needs an API key: set the environment variable {self.api_key_env}")

    async def prepare(self, memory: object = None) -> str:
        """Make sure that the key is taken and the model is there; returns what the API can do, which is known.

        Raises UnknownNameError for a model that is not there, and the errors of `generate`.
        """
        response = await self._http.send("GET", f"v1/models/{self.model}")
        if response.status_code == 404:
            listed = await self._http.send("GET", "v1/models?limit=1000")
            names = decode_model_list(listed.content) if listed.is_success else []
            raise UnknownNameError(f"model at {self.base_url}", self.model, names)
        if not response.is_success:
            raise self._http.error(response)
        return "has: json_schema (by a tool), max_tokens; absent: top_logprobs, prompt_logprobs, n, seed"

    async def generate(self, request: Request) -> Response:
        """Answer one request.

        Raises UnreachableError, TimeoutExceededError, RateLimitedError, ServerError (these four are worth
        retrying), RefusedRequestError or MalformedReplyError, and nothing else.
        """
        body = encode_message(request, self.model)
        while True:
            sent = without_refused(body, self._refused)
            response = await self._http.send("POST", "v1/messages", as_ascii(sent))
            named = refused_parameter(response.status_code, response.text, {"temperature"} & set(sent))
            if named is None:
                return decode_message(self._http.object_in(response), self.model, self._http.key.quote)
            _log.warning("%s does not take %s, which is left out from now on", self.model, named)
            self._refused.add(named)

    async def close(self) -> None:
        """Close the connections; new ones are opened if it is used again, in another event loop too."""
        await self._http.close()

    @cached_property
    def _http(self) -> HttpEndpoint:
        key = ApiKey.from_environment(self.api_key_env)
        headers = key.headers("x-api-key", "") | {"anthropic-version": API_VERSION}
        return HttpEndpoint(base_url=self.base_url, key=key, headers=headers, timeout_seconds=self.timeout_seconds)

    @cached_property
    def _refused(self) -> set[str]:
        """`temperature`, once the model has said that it takes none."""
        return set()
