"""Any OpenAI-compatible endpoint over HTTP: OpenAI itself, vLLM, llama.cpp, SGLang, Ollama, OpenRouter.

One Request becomes one POST to `{base_url}/chat/completions`, one PromptRequest one to `{base_url}/completions`.
Nothing is retried and nothing is limited here: `RetryingClient` and `LimitedClient` do that.

What the endpoint can do is asked once (`prepare`, see `_probing`) and not assumed from its name: an unprobed client
sends what a request asks for, a probed one only what the server really does. A parameter that the server refuses in so
many words is left out from then on, probed or not.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sae_auto_interp.clients.http.api_key import ApiKey
from sae_auto_interp.clients.http.capabilities import Capabilities, CapabilityFile
from sae_auto_interp.clients.http.chat_completions import as_ascii, decode_model_list, decode_reply, encode_request
from sae_auto_interp.clients.http.endpoint import HttpEndpoint
from sae_auto_interp.clients.http.json_values import JsonObject
from sae_auto_interp.clients.http.probing import Prober
from sae_auto_interp.clients.http.prompt_logprobs import decode_reading, encode_reading
from sae_auto_interp.clients.http.refused_parameters import refused_parameter, without_refused
from sae_auto_interp.clients.http.reply import Reply
from sae_auto_interp.clients.wrappers.billing import charged_probes
from sae_auto_interp.errors import InputError, RefusedRequestError, UnknownNameError
from sae_auto_interp.types import PromptLogprobs, PromptRequest, Request, Response

_log = logging.getLogger(__name__)

_DOES_NOT_LIST_MODELS = (403, 404, 405, 500, 501)
"""403: the key may be allowed to ask the model and not to list models. 500: `transformers serve` without a cache."""


@dataclass(frozen=True, kw_only=True, eq=False, init=False)
class OpenAIClient:
    """Client of one model at one OpenAI-compatible endpoint; also a PromptReader, where the endpoint can be one.

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
    capabilities: Capabilities | None = field(default=None, init=False)
    """What `prepare` saw; None: not asked yet."""

    def __init__(
        self,
        *,
        base_url: str,
        model: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        timeout_seconds: float = 120.0,
    ) -> None:
        """Written by hand for one reason: `model` may be left open here, and is a `str` to everyone who reads it."""
        self._set("base_url", base_url)
        self._set("model", model or "")
        self._set("api_key_env", api_key_env)
        self._set("timeout_seconds", timeout_seconds)
        self._set("capabilities", None)
        _ = self._http  # made now: a broken key shows before the run starts, and a later change of it does nothing

    async def generate(self, request: Request) -> Response:
        """Answer one request.

        Raises UnreachableError, TimeoutExceededError, RateLimitedError, ServerError, BrokenReplyError (these five are
        worth retrying), NoAccessError, RefusedRequestError or MalformedReplyError, and nothing else.
        """
        self._require_model()
        reply = await self._post("chat/completions", encode_request(request, self.model, self.capabilities))
        return decode_reply(reply, self.model, self._http.key.quote)

    async def read(self, request: PromptRequest) -> PromptLogprobs:
        """Rate the tokens of a text, at an endpoint that `prepare` saw do it.

        Raises RefusedRequestError at any other, and what `generate` raises.
        """
        self._require_model()
        by = None if self.capabilities is None else self.capabilities.prompt_logprobs
        if by is None:
            why = "was not probed: await prepare() first" if self.capabilities is None else "does not do that"
            raise RefusedRequestError(f"{self.model} at {self.base_url} is to rate a given text, and {why}")
        reply = await self._post("completions", encode_reading(request, self.model, by))
        return decode_reading(reply, request, self.model, by, self._http.key.quote)

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

    async def prepare(self, memory: Path | None = None) -> str:
        """`check`, then find out what the endpoint can do; asked once when there is a folder to remember it in.

        Returns it in one line. Raises what `check` and `generate` raise, and RunDirectoryError for a damaged memory.
        """
        await self.check()
        file = None if memory is None else CapabilityFile(memory, self.base_url, self.model)
        known = None if file is None else file.load()
        if known is None:
            seen = await Prober(charged_probes(self._post, self.model), self.model).probe()
            known = seen.with_refused(self._refused)
            if file is not None:
                file.save(known)
        self._refused.update(known.refused)
        self._set("capabilities", known)
        return known.summary()

    async def close(self) -> None:
        """Close the connections. The client opens new ones if it is used again, in another event loop too."""
        await self._http.close()

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @cached_property
    def _key(self) -> ApiKey:
        return ApiKey.from_environment(self.api_key_env)

    @cached_property
    def _http(self) -> HttpEndpoint:
        return HttpEndpoint(
            base_url=self.base_url, key=self._key, headers=self._key.headers(), timeout_seconds=self.timeout_seconds
        )

    @cached_property
    def _refused(self) -> set[str]:
        """Parameters that this server does not take, as it said itself."""
        return set()

    async def _post(self, path: str, body: Mapping[str, object]) -> JsonObject:
        """Send, and send again without a parameter that was refused; at most once for each."""
        while True:
            sent = without_refused(body, self._refused)
            response = await self._http.send("POST", path, as_ascii(sent))
            named = refused_parameter(response.status_code, response.text, sent) if response.is_error else None
            if named is None:
                return self._http.object_in(response)
            self._learn(named, response)

    def _learn(self, parameter: str, response: Reply) -> None:
        if parameter not in self._refused:  # requests that were sent at once are all refused
            said = self._http.key.quote(response.text)
            _log.warning("%s does not take %s, which is left out from now on: %s", self.model, parameter, said)
        self._refused.add(parameter)

    def _require_model(self) -> None:
        if not self.model:
            raise RefusedRequestError(f"no model is named for {self.base_url}; set model, or await check() first")

    async def _listed_models(self) -> list[str]:
        response = await self._http.send("GET", "models")
        if response.is_success:
            return decode_model_list(response.content)
        if response.status_code not in _DOES_NOT_LIST_MODELS:
            raise self._http.error(response)
        if response.is_server_error:  # uvicorn then closes the connection without a word
            await self._http.close()
        await self._require_chat_endpoint()
        _log.info("%s does not list its models (status %d)", self.base_url, response.status_code)
        return []

    async def _require_chat_endpoint(self) -> None:
        """Raise RefusedRequestError if the path is wrong; an empty request is refused anyway, but not with 404."""
        response = await self._http.send("POST", "chat/completions", b"{}")
        if response.status_code == 404:
            raise self._http.error(response)


def _names_one_of(model: str, listed: list[str]) -> bool:
    """Ollama lists `name` as `name:latest`, Gemini as `models/name`; both answer to the bare name. Of a model that lies
    in a folder no list needs to know: `transformers serve` lists what it downloaded."""
    return Path(model).is_absolute() or not {model, f"{model}:latest", f"models/{model}"}.isdisjoint(listed)
