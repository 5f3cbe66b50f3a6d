"""A stand-in for vLLM with the signatures of its asynchronous engine (0.12), answering from the embedded model.

`install(monkeypatch)` puts `vllm`, `vllm.sampling_params`, `vllm.engine.arg_utils` and `vllm.v1.engine.async_llm` in
place. Arguments that the real classes do not have are errors here too.
"""

import sys
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import ModuleType
from typing import Any

import pytest

from tests.support.embedded_reference import Rated, greedy_ids, piece_of, rate_ids


class RequestOutputKind(Enum):
    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


@dataclass
class StructuredOutputsParams:
    json: str | dict[str, Any] | None = None
    regex: str | None = None
    choice: list[str] | None = None
    disable_any_whitespace: bool = False


@dataclass
class SamplingParams:
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    max_tokens: int | None = 16
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    output_kind: RequestOutputKind = RequestOutputKind.CUMULATIVE
    structured_outputs: StructuredOutputsParams | None = None
    stop_token_ids: list[int] | None = None

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}.")


@dataclass
class Logprob:
    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None = None


@dataclass
class RequestOutput:
    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    prompt_logprobs: list[dict[int, Logprob] | None] | None
    outputs: list[CompletionOutput]
    finished: bool = True


@dataclass
class AsyncEngineArgs:
    model: str
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    max_model_len: int | None = None


@dataclass
class AsyncLLM:
    args: AsyncEngineArgs
    seen: list[SamplingParams] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    is_shut_down: bool = False

    @classmethod
    def from_engine_args(cls, engine_args: AsyncEngineArgs) -> "AsyncLLM":
        return cls(engine_args)

    async def generate(
        self, prompt: Mapping[str, Any], sampling_params: SamplingParams, request_id: str
    ) -> AsyncGenerator[RequestOutput]:
        assert request_id not in self.ids, "request ids must be unique"
        self.ids.append(request_id)
        self.seen.append(sampling_params)
        ids: list[int] = prompt["prompt_token_ids"]
        if len(ids) >= 128:
            raise ValueError("The decoder prompt is longer than the maximum model length of 128.")
        if sampling_params.structured_outputs is not None:
            yield RequestOutput(
                request_id, None, ids, None, [CompletionOutput(0, '{"fits": true}', [1, 2], None, None)]
            )
            return
        written = greedy_ids(ids, sampling_params.max_tokens or 16)
        rated = rate_ids([*ids, *written])
        k, of_prompt = sampling_params.logprobs, sampling_params.prompt_logprobs
        logprobs = None if k is None else [_entries(rated, i, k) for i in range(len(ids), len(rated.ids))]
        before = None if of_prompt is None else [None, *(_entries(rated, i, of_prompt) for i in range(1, len(ids)))]
        text = "".join(map(piece_of, written))
        yield RequestOutput(
            request_id, None, ids, before, [CompletionOutput(0, text, written, None, logprobs, "length")]
        )

    def shutdown(self, timeout: float | None = None) -> None:
        self.is_shut_down = True


def _entries(rated: Rated, i: int, k: int) -> dict[int, Logprob]:
    values = {rated.ids[i]: rated.of_token(i)} | (rated.likeliest(i, k) if k else {})
    return {token: Logprob(value, None, piece_of(token)) for token, value in values.items()}


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    contents: dict[str, dict[str, Any]] = {
        "vllm": {},
        "vllm.sampling_params": {
            "SamplingParams": SamplingParams,
            "StructuredOutputsParams": StructuredOutputsParams,
            "RequestOutputKind": RequestOutputKind,
        },
        "vllm.engine": {},
        "vllm.engine.arg_utils": {"AsyncEngineArgs": AsyncEngineArgs},
        "vllm.v1": {},
        "vllm.v1.engine": {},
        "vllm.v1.engine.async_llm": {"AsyncLLM": AsyncLLM},
    }
    for name, values in contents.items():
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    vars(sys.modules["vllm"])["sampling_params"] = sys.modules["vllm.sampling_params"]
