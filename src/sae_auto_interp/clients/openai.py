"""Any OpenAI-compatible endpoint over HTTP: OpenAI itself, vLLM, llama.cpp, SGLang, Ollama, OpenRouter.

One Request becomes one POST to `{base_url}/chat/completions`, one PromptRequest one to `{base_url}/completions`.
Nothing is retried and nothing is limited here: `RetryingClient` and `LimitedClient` do that.

What the endpoint can do is asked once (`prepare`, see `_probing`) and not assumed from its name: an unprobed client
sends what a request asks for, a probed one only what the server really does. What the server refuses, in whatever
words, is left out from then on, probed or not (`_learning`).
"""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import httpx2

from sae_auto_interp.clients.http.api_key import ApiKey
from sae_auto_interp.clients.http.capabilities import Capabilities, CapabilityFile
from sae_auto_interp.clients.http.chat_completions import (
    as_ascii,
    decode_model_list,
    decode_reply,
    encode_request,
    rates_tokens,
)
from sae_auto_interp.clients.http.context_length import ServedContext, root_of, told_context
from sae_auto_interp.clients.http.endpoint import HttpEndpoint
from sae_auto_interp.clients.http.errors_inside import Refusal, outcome
from sae_auto_interp.clients.http.json_values import JsonObject
from sae_auto_interp.clients.http.learning import Refusals
from sae_auto_interp.clients.http.probing import Post, Prober
from sae_auto_interp.clients.http.prompt_logprobs import decode_reading, encode_reading
from sae_auto_interp.clients.http.refused_parameters import parts_of, shown_name, without_refused
from sae_auto_interp.clients.http.reply import Reply
from sae_auto_interp.clients.wrappers.billing import charged_probes
from sae_auto_interp.clients.wrappers.patience import current_patience
from sae_auto_interp.errors import (
    BrokenReplyError,
    InputError,
    PromptTooLongError,
    RefusedRequestError,
    UnknownNameError,
)
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
        self._context.check(request)
        try:
            reply = await self._post("chat/completions", encode_request(request, self.model, self.capabilities))
        except PromptTooLongError as error:
            self._context.note(error)
            raise
        response = decode_reply(reply, self.model, self._http.key.quote)
        if request.top_logprobs and response.logprobs is None and rates_tokens(reply):
            self._note_other_tokens()
        return response

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
        listed, shown = await self._listed_models()
        if self.model:
            if listed and not _names_one_of(self.model, listed):
                raise UnknownNameError(f"model at {self.base_url}", self.model, listed)
        elif len(listed) == 1:
            # The one change after building: "the only model there is" is a name that was not known before.
            self._set("model", listed[0])
        else:
            known = ", ".join(sorted(listed)[:12]) if listed else "none"
            raise InputError(
                f"{self.base_url} lists {len(listed)} models ({known}){shown}; set model to the one to ask"
            )

    async def prepare(self, memory: Path | None = None) -> str:
        """`check`, then find out what the endpoint can do; asked once when there is a folder to remember it in.

        Returns it in one line. Raises what `check` and `generate` raise, and RunDirectoryError for a damaged memory.
        """
        await self.check()
        file = None if memory is None else CapabilityFile(memory, self.base_url, self.model)
        known = None if file is None else file.load()
        self._refusals.known.update(() if known is None else known.refused)
        if known is None:
            seen = await self._probed(None)
            context_tokens = await told_context(self._http.send, self.model, root_of(httpx2.URL(self.base_url).path))
            known = replace(seen, context_tokens=context_tokens)
        elif not known.is_complete:
            known = await self._probed(known)
        if file is not None:
            file.save(known)
        self._set("capabilities", known)
        self._set("_file", file)
        self._context.told = known.context_tokens
        return known.summary()

    async def _probed(self, known: Capabilities | None) -> Capabilities:
        """What the endpoint can do; asked as often as a run would, and no more than is not known yet."""
        prober = Prober(self._patient(self._post_plainly), self._patient(self._post), self.model)
        try:
            seen = await (prober.probe() if known is None else prober.complete(known))
        except (BrokenReplyError, RefusedRequestError) as error:
            error.args = (f"{error} (asked to find out what the endpoint can do; is base_url {self.base_url} right?)",)
            raise
        return seen.with_refused(self._refusals.known)

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
    def _refusals(self) -> Refusals:
        """What this server does not take, as it said or showed itself."""
        return Refusals(self._learn)

    @cached_property
    def _context(self) -> ServedContext:
        """What is known of how long a prompt may be."""
        return ServedContext(self.model)

    async def _post(self, path: str, body: Mapping[str, object]) -> JsonObject:
        """Send, and send again without what is refused."""
        return await self._refusals.ask(parts_of(body), lambda left_out: self._send(path, body, left_out))

    async def _post_plainly(self, path: str, body: Mapping[str, object]) -> JsonObject:
        """The same without trying: what a question is about must not be left out of it."""
        return await self._refusals.ask(
            parts_of(body), lambda left_out: self._send(path, body, left_out), is_tried=False
        )

    async def _send(self, path: str, body: Mapping[str, object], left_out: Collection[str]) -> JsonObject | Refusal:
        sent = without_refused(body, left_out)
        return outcome(self._http, await self._http.send("POST", path, as_ascii(sent)), sent)

    def _patient(self, post: Post) -> Post:
        """The same, charged to the run and as patient as the run."""
        charged, patience = charged_probes(post, self.model), current_patience()
        return lambda path, body: patience.ask(self, lambda: charged(path, body))

    def _learn(self, part: str, refusal: Refusal) -> None:
        _log.warning(
            "%s does not take %s, which is left out from now on: %s", self.model, shown_name(part), refusal.error
        )
        known, file = self.capabilities, self.__dict__.get("_file")
        if known is not None:
            known = known.with_refused(self._refusals.known)
            self._set("capabilities", known)
            if isinstance(file, CapabilityFile):
                file.save(known)

    def _note_other_tokens(self) -> None:
        """Say once that verdicts have no confidence although there are log-probabilities."""
        if "_said_other_tokens" not in self.__dict__:
            self._set("_said_other_tokens", True)
            _log.warning(
                "%s gives log-probabilities of other tokens than those of its answer: such answers have no confidences",
                self.model,
            )

    def _require_model(self) -> None:
        if not self.model:
            raise RefusedRequestError(f"no model is named for {self.base_url}; set model, or await check() first")

    async def _listed_models(self) -> tuple[list[str], str]:
        """The models, and what is to be said of an answer that is no list."""
        response = await current_patience().reach(self, self._asked_for_models)
        if response.is_success:
            listed = decode_model_list(response.content)
            if listed is not None:
                return listed, ""
            said = self._http.key.quote(response.text) or "(empty body)"
            return [], f", for {response.url} is no list of models but: {said}; is base_url right?"
        if response.is_server_error:  # uvicorn then closes the connection without a word
            await self._http.close()
        await self._require_chat_endpoint()
        _log.info("%s does not list its models (status %d)", self.base_url, response.status_code)
        return [], ""

    async def _asked_for_models(self) -> Reply:
        response = await self._http.send("GET", "models")
        if response.is_success or response.status_code in _DOES_NOT_LIST_MODELS:
            return response
        raise self._http.error(response)

    async def _require_chat_endpoint(self) -> None:
        """Raise RefusedRequestError if the path is wrong; an empty request is refused anyway, but not with 404."""
        response = await self._http.send("POST", "chat/completions", b"{}")
        if response.status_code == 404:
            raise self._http.error(response)


def _names_one_of(model: str, listed: list[str]) -> bool:
    """Ollama lists `name` as `name:latest`, Gemini as `models/name`; both answer to the bare name. Of a model that lies
    in a folder no list needs to know: `transformers serve` lists what it downloaded."""
    return Path(model).is_absolute() or not {model, f"{model}:latest", f"models/{model}"}.isdisjoint(listed)
