"""vLLM's engine in this process: its batching, prefix cache and decoding by schema without a server between.

Written against the interface of vLLM's asynchronous engine (`vllm.v1.engine.async_llm.AsyncLLM`, 0.12 and later), and
tested against a stand-in of that interface: it has not been run on a GPU. `vllm serve` and kind `openai` do the same
work over HTTP.
"""

import itertools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from typing import Any

from sae_auto_interp.clients.http.context_length import too_long
from sae_auto_interp.clients.http.errors_inside import Refusal
from sae_auto_interp.clients.http.json_values import as_object
from sae_auto_interp.clients.http.learning import Refusals
from sae_auto_interp.clients.http.refused_parameters import schema_kind, shown_name
from sae_auto_interp.clients.http.schema_words import worded
from sae_auto_interp.clients.http.thinking import thinking_length, without_first
from sae_auto_interp.clients.http.usage import malformed
from sae_auto_interp.clients.in_process.causal_lm import conversation_ids, first_unrated, text_ids
from sae_auto_interp.clients.in_process.turn_ends import turn_ends
from sae_auto_interp.errors import InputError, MalformedReplyError, MissingExtraError, RefusedRequestError, ServerError
from sae_auto_interp.model_loading.pretrained import load_tokenizer
from sae_auto_interp.types import PromptLogprobs, PromptRequest, Request, Response, TokenLogprob, Usage

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class VllmClient:
    """Client and PromptReader of a model that vLLM runs here; loads it in `prepare`, or on the first request."""

    model: str
    """A folder in Hugging Face format, or a hub id."""
    engine: Mapping[str, Any] = field(default_factory=lambda: {})
    """Further arguments of vLLM's `AsyncEngineArgs`: tensor_parallel_size, max_model_len, ..."""
    _numbers: Iterator[int] = field(default_factory=itertools.count, init=False, repr=False)

    def __post_init__(self) -> None:
        """Raise `InputError` for an engine that would run code from where the model comes from."""
        if self.engine.get("trust_remote_code"):
            raise InputError("client.engine.trust_remote_code: code that comes with a model is never run; leave it out")

    async def prepare(self, memory: object = None) -> str:
        """Load the model; returns what it can do. Raises MissingExtraError without vLLM."""
        _ = self._engine
        return "in process by vLLM; has: json_schema, top_logprobs, prompt_logprobs, seed, max_tokens"

    async def generate(self, request: Request) -> Response:
        """Answer one request.

        Raises RefusedRequestError for what the engine refuses, MalformedReplyError for an empty answer, and
        ServerError when the engine failed.
        """
        parts = [] if request.schema is None else [schema_kind(as_object(_parsed(request.schema)))]

        async def send(left_out: frozenset[str]) -> Any:
            return await self._outcome(request if left_out.isdisjoint(parts) else replace(request, schema=None))

        output = await self._refusals.ask(parts, send)
        return self._response(output, output.outputs[0])

    async def _outcome(self, request: Request) -> Any:
        """The finished output, or the `Refusal`."""
        ids = conversation_ids(self._tokenizer, worded(request))
        sampling: dict[str, Any] = {
            "temperature": request.sampling.temperature, "max_tokens": request.sampling.max_tokens,
            "seed": request.sampling.seed, "logprobs": request.top_logprobs or None,
        }  # fmt: skip
        own_ends = turn_ends(self._tokenizer) - {self._tokenizer.eos_token_id}  # at which vLLM stops of itself
        if own_ends:
            sampling["stop_token_ids"] = sorted(own_ends)
        if request.schema is not None:
            sampling["structured_outputs"] = _vllm("sampling_params").StructuredOutputsParams(
                json=_parsed(request.schema)
            )
        try:
            return await self._run(ids, sampling)
        except RefusedRequestError as error:
            return Refusal(400, str(error), error, {})

    async def read(self, request: PromptRequest) -> PromptLogprobs:
        """Rate the tokens of a text. Raises what `generate` raises."""
        ids, pieces = text_ids(self._tokenizer, request.text)
        output = await self._run(ids, {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": request.top_logprobs})
        listed: Sequence[Any] = output.prompt_logprobs or ()
        if len(listed) != len(ids):
            raise MalformedReplyError(f"vLLM rated {len(listed)} of {len(ids)} tokens")
        rated = [_token_logprob("", token, entries) for token, entries in zip(ids[1:], listed[1:], strict=True)]
        return PromptLogprobs(first_unrated(pieces, rated), Usage(len(ids), 1, 1), self.model)

    async def close(self) -> None:
        """Give the GPU back. The model is loaded again if it is used again."""
        engine = self.__dict__.pop("_engine", None)
        if engine is not None:
            engine.shutdown()

    @cached_property
    def _refusals(self) -> Refusals:
        """Kinds of schemas that the engine's decoding does not know."""
        return Refusals(
            lambda part, refusal: _log.warning("%s: no %s: %s", self.model, shown_name(part), refusal.error)
        )

    @cached_property
    def _engine(self) -> Any:
        arguments = _vllm("engine.arg_utils").AsyncEngineArgs(model=self.model, **self.engine)
        return _vllm("v1.engine.async_llm").AsyncLLM.from_engine_args(arguments)

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(f"client.model {self.model!r}", self.model)

    async def _run(self, ids: Sequence[int], sampling: Mapping[str, Any]) -> Any:
        """The finished output of one request with parameters of its own."""
        engine, parameters = self._engine, _vllm("sampling_params")
        last: Any = None
        try:
            wanted = parameters.SamplingParams(**sampling, output_kind=parameters.RequestOutputKind.FINAL_ONLY)
            prompt = {"prompt_token_ids": list(ids)}
            async for output in engine.generate(prompt, wanted, f"sae-auto-interp-{next(self._numbers)}"):
                last = output
        except ValueError as error:  # too long a prompt, or a parameter out of its range
            message = f"vLLM refuses the request: {error}"
            raise too_long(message, str(error).encode()) or RefusedRequestError(message) from error
        except RuntimeError as error:
            raise ServerError(f"vLLM's engine failed: {' '.join(str(error).split())[:300]}") from error
        if last is None or not last.outputs:
            raise MalformedReplyError("vLLM gave no output")
        return last

    def _response(self, output: Any, completion: Any) -> Response:
        text: str = completion.text
        n_thinking = thinking_length(text)
        usage = Usage(len(output.prompt_token_ids), len(completion.token_ids), n_requests=1)
        if not text[n_thinking:]:
            raise malformed(f"the answer is empty, or all thinking: {text[:200]!r}; raise max_tokens", usage)
        listed: Sequence[Any] | None = completion.logprobs
        tokens = None
        if listed is not None:
            pairs = zip(completion.token_ids, listed, strict=True)
            tokens = tuple(_token_logprob(entries[t].decoded_token or "", t, entries) for t, entries in pairs)
        reason = completion.finish_reason or "unknown"
        return Response(text[n_thinking:], usage, reason, self.model, without_first(tokens, n_thinking))


def _vllm(name: str) -> Any:
    """A module of vLLM, which is installed for this client only."""
    try:
        return import_module(f"vllm.{name}")
    except ImportError as error:
        raise MissingExtraError("vllm", "vllm", "client.kind vllm") from error


def _token_logprob(piece: str, token: int, entries: Mapping[int, Any]) -> TokenLogprob:
    """One position of vLLM's: {token id: Logprob}; of alternatives that print alike the likeliest stays."""
    texts: dict[str, float] = {}
    for entry in sorted(entries.values(), key=lambda entry: -entry.logprob):
        texts.setdefault(entry.decoded_token or "", float(entry.logprob))
    return TokenLogprob(piece, float(entries[token].logprob), texts)


def _parsed(schema: str) -> Any:
    try:
        return json.loads(schema)
    except ValueError as error:
        raise RefusedRequestError(f"the schema of the request is not JSON ({error}): {schema[:200]!r}") from None
