"""Models that rate given text: one that knows levels, one that counts words, and the embedded model itself."""

import asyncio
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sae_auto_interp.errors import ClientError
from sae_auto_interp.types import PromptLogprobs, PromptRequest, Request, Response, TokenLogprob, Usage

WORDS = re.compile(r"\w+|\s|[^\w\s]")
"""Words, and every other character by itself."""


@dataclass(frozen=True)
class PlacedReader:
    """Alternatives at chosen places of a text: `placed(text)` gives {offset: probabilities}. Other tokens have none."""

    placed: Callable[[str], Mapping[int, Mapping[str, float]] | ClientError]
    split: re.Pattern[str] = WORDS
    model: str = "placed"
    requests: list[PromptRequest] = field(default_factory=list)
    latency_seconds: float = 0.0

    async def read(self, request: PromptRequest) -> PromptLogprobs:
        self.requests.append(request)
        await asyncio.sleep(self.latency_seconds)
        placed = self.placed(request.text)
        if isinstance(placed, ClientError):
            raise placed
        tokens = [
            TokenLogprob(match[0], -1.0, {k: math.log(p) for k, p in placed.get(match.start(), {}).items()})
            for match in self.split.finditer(request.text)
        ]
        return PromptLogprobs(tuple(tokens), Usage(len(tokens), 0, 1), self.model)

    async def generate(self, request: Request) -> Response:
        raise AssertionError("this model only reads")

    async def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class WordReader:
    """Each word's log-probability is a function of the text before it and the word, and so are its alternatives."""

    logprob: Callable[[str, str], float]
    alternatives: Callable[[str, str], Mapping[str, float]] = lambda before, word: {}
    model: str = "words"
    latency_seconds: float = 0.0

    async def read(self, request: PromptRequest) -> PromptLogprobs:
        await asyncio.sleep(self.latency_seconds)
        found = [(m[0], request.text[: m.start()]) for m in WORDS.finditer(request.text)]
        tokens = tuple(
            TokenLogprob(word, self.logprob(before, word) if before else math.nan, self.alternatives(before, word))
            for word, before in found
        )
        return PromptLogprobs(tokens, Usage(len(tokens), 0, 1), self.model)

    async def generate(self, request: Request) -> Response:
        raise AssertionError("this model only reads")

    async def close(self) -> None:
        """Nothing is open."""


@cache
def _strings() -> list[str]:
    """Every token of the embedded model as a text."""
    from tests.pipeline.embedded import wrapped_model

    tokenizer = wrapped_model().tokenizer
    return tokenizer.batch_decode([[i] for i in range(len(tokenizer))])


class EmbeddedReader:
    """The embedded language model, one text at a time; of long texts it sees the nearest tokens that fit."""

    model = "embedded"
    n_context = 128

    async def read(self, request: PromptRequest) -> PromptLogprobs:
        from tests.pipeline.embedded import wrapped_model

        tokenizer = wrapped_model().tokenizer
        encoded = tokenizer(request.text, return_offsets_mapping=True, add_special_tokens=False, verbose=False)
        ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
        tokens = [TokenLogprob(request.text[: offsets[0][1]], math.nan)]
        step = self.n_context // 2
        for begin in range(0, len(ids), step):
            first = max(0, begin - step)
            for place, logprobs in enumerate(self._logprobs(ids[first : begin + step]), first + 1):
                if max(1, begin) <= place < min(begin + step, len(ids)):
                    values, indices = logprobs.topk(min(max(1, request.top_logprobs), len(logprobs)))
                    listed = zip((_strings()[i] for i in indices.tolist()), values.tolist(), strict=True)
                    text = request.text[slice(*offsets[place])]
                    tokens.append(TokenLogprob(text, float(logprobs[ids[place]]), dict(listed)))
        return PromptLogprobs(tuple(tokens), Usage(len(ids), 0, 1), self.model)

    def _logprobs(self, ids: list[int]) -> Any:
        import torch

        from tests.pipeline.embedded import wrapped_model

        with torch.inference_mode():
            return wrapped_model()._module(torch.tensor([ids])).logits[0].log_softmax(-1)

    async def generate(self, request: Request) -> Response:
        raise AssertionError("this model only reads")

    async def close(self) -> None:
        """Nothing is open."""
