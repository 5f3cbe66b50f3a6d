"""A Hugging Face model in this process: no server to start, and log-probabilities of everything.

Requests that arrive within a moment are answered in one batch (`_batching`), by `_causal_lm`. Answers are free text:
there is no decoding by schema, so verdicts are read from the text.

What holds about repeatability: a request draws its random numbers from its own content and seed, whatever else runs, so
the same batches give the same bits. In another batch the logits differ in their last bits (matrix products round
differently), and a text only where two tokens are as good as equally likely; with `max_batch=1` nothing differs.
"""

import asyncio
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from sae_auto_interp.clients.http.thinking import thinking_length, without_first
from sae_auto_interp.clients.http.usage import malformed
from sae_auto_interp.clients.in_process.batching import Batcher
from sae_auto_interp.clients.in_process.causal_lm import (
    CausalLanguageModel,
    Generation,
    Row,
    conversation_ids,
    first_unrated,
    text_ids,
)
from sae_auto_interp.errors import InputError, ServerError
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import PromptLogprobs, PromptRequest, Request, Response, TokenLogprob, Usage

_LOGITS_BYTES = 1 << 30
"""Memory for the logits of a batch of given texts, which all exist at once."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """A text as the model reads it, and what each token covers of it."""

    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    top_logprobs: int


@dataclass(frozen=True, kw_only=True, eq=False)
class TransformersClient:
    """Client and PromptReader of a causal language model; loads it in `prepare`, or on the first request.

    Raises InputError when built with an impossible setting, and in `prepare` where there is no such model.
    """

    model: str
    """A folder in Hugging Face format, or a hub id."""
    device: str = "auto"
    """A torch device; auto: a GPU if there is one."""
    dtype: str = "auto"
    """float32, bfloat16, float16, or auto: as the model's files say."""
    max_batch: int = 32
    """Requests in one batch at most."""
    max_batch_tokens: int = 32_768
    """Tokens in one batch at most, padding and those to be generated included; a longer request runs alone."""
    gather_seconds: float = 0.01
    """How long a batch waits for company."""

    def __post_init__(self) -> None:
        if self.max_batch < 1 or self.max_batch_tokens < 1 or not self.gather_seconds >= 0:
            raise InputError(
                f"max_batch {self.max_batch} and max_batch_tokens {self.max_batch_tokens} must be at least 1, "
                f"gather_seconds {self.gather_seconds} at least 0"
            )

    async def prepare(self, memory: object = None) -> str:
        """Load the model; it has nothing to remember. Returns what it can do in one line."""
        loaded = await asyncio.get_running_loop().run_in_executor(self._thread, lambda: self._loaded)
        place = f"in process on {loaded.model.device}, {str(loaded.model.dtype).removeprefix('torch.')}"
        return f"{place}; has: top_logprobs, prompt_logprobs, seed, max_tokens; absent: json_schema"

    async def generate(self, request: Request) -> Response:
        """Answer one request.

        Raises PromptTooLongError for a prompt that does not fit with its answer, RefusedRequestError for one that
        cannot be put, MalformedReplyError for an empty answer, and ServerError, which is worth retrying, when the
        device is out of memory.
        """
        prompt = await asyncio.get_running_loop().run_in_executor(self._thread, self._generation, request)
        row = await self._generations.ask(prompt)
        return self._response(prompt, row)

    async def read(self, request: PromptRequest) -> PromptLogprobs:
        """Rate the tokens of a text. Raises PromptTooLongError for one that does not fit, or ServerError."""
        reading = await asyncio.get_running_loop().run_in_executor(self._thread, self._reading, request)
        tokens = await self._readings.ask(reading)
        return PromptLogprobs(first_unrated(reading.pieces, tokens), Usage(len(reading.ids), 0, 1), self.model)

    async def close(self) -> None:
        """Give the memory back. The model is loaded again if it is used again."""
        for name in ("_generations", "_readings"):
            batcher = self.__dict__.pop(name, None)
            if batcher is not None:
                await batcher.close()
        thread = self.__dict__.pop("_thread", None)
        if thread is not None:
            thread.shutdown(wait=True)
        self.__dict__.pop("_loaded", None)

    @cached_property
    def _thread(self) -> ThreadPoolExecutor:
        """The one thread in which the model is loaded and run."""
        return ThreadPoolExecutor(max_workers=1, thread_name_prefix="language-model")

    @cached_property
    def _loaded(self) -> CausalLanguageModel:
        return CausalLanguageModel.load(self.model, self.device, self.dtype)

    @cached_property
    def _generations(self) -> Batcher[Generation, Row]:
        def batches(waiting: Sequence[Generation]) -> list[list[int]]:
            lengths = [len(each.ids) + each.max_tokens for each in waiting]
            return batches_by_length(lengths, self.max_batch, self.max_batch_tokens)

        return Batcher(self._generate, batches, self.gather_seconds, self._thread)

    @cached_property
    def _readings(self) -> Batcher[_Reading, list[TokenLogprob]]:
        def batches(waiting: Sequence[_Reading]) -> list[list[int]]:
            limit = _LOGITS_BYTES // (4 * len(self._loaded.tokenizer))
            return batches_by_length([len(each.ids) for each in waiting], self.max_batch, limit)

        return Batcher(self._read, batches, self.gather_seconds, self._thread)

    def _generation(self, request: Request) -> Generation:
        ids = conversation_ids(self._loaded.tokenizer, request.messages)
        sampling = request.sampling
        self._loaded.require_room(len(ids), sampling.max_tokens)
        self._loaded.require_known(ids)
        rng = derived_rng(sampling.seed or 0, request.canonical_json())
        return Generation(ids, sampling.max_tokens, sampling.temperature, request.top_logprobs, rng)

    def _generate(self, batch: Sequence[Generation], answer: Callable[[int, Row | Exception], None]) -> None:
        with _memory_errors():
            self._loaded.generate(batch, answer)

    def _reading(self, request: PromptRequest) -> _Reading:
        ids, pieces = text_ids(self._loaded.tokenizer, request.text)
        self._loaded.require_room(len(ids))
        self._loaded.require_known(ids)
        return _Reading(ids, pieces, request.top_logprobs)

    def _read(self, batch: Sequence[_Reading], answer: Callable[[int, list[TokenLogprob] | Exception], None]) -> None:
        with _memory_errors():
            rated = self._loaded.rate([each.ids for each in batch], [each.top_logprobs for each in batch])
        for i, tokens in enumerate(rated):
            answer(i, tokens)

    def _response(self, prompt: Generation, row: Row) -> Response:
        text, tokens = self._loaded.text_of(row)
        n_thinking = thinking_length(text)
        usage = Usage(len(prompt.ids), len(row.ids) + (row.finish_reason == "stop"), n_requests=1)
        if not text[n_thinking:]:
            raise malformed(f"the answer is empty, or all thinking: {text[:200]!r}; raise max_tokens", usage)
        answer = without_first(tokens, n_thinking)
        return Response(text[n_thinking:], usage, row.finish_reason or "unknown", self.model, answer)


def batches_by_length(lengths: Sequence[int], max_rows: int, max_tokens: int) -> list[list[int]]:
    """Indices of items, like with like: every batch within both bounds, but for an item that is too long by itself.

    >>> batches_by_length([5, 100, 6, 7], max_rows=2, max_tokens=100)
    [[0, 2], [3], [1]]
    """
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        fits = bool(batches) and len(batches[-1]) < max_rows and (len(batches[-1]) + 1) * lengths[i] <= max_tokens
        if fits:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


@contextmanager
def _memory_errors() -> Generator[None]:
    """A device that is out of memory may manage the next batch, in other company."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ServerError(f"out of memory: lower max_batch_tokens ({' '.join(str(error).split())[:200]})") from error
