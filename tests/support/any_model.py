"""A language model in this process that answers whatever the library asks, in form and without sense.

For run files: `client: {kind: "tests.support.any_model:AnyModel"}`, and as `prompt_reader`.
"""

import json
import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae_auto_interp.types import PromptLogprobs, PromptRequest, Request, Response, TokenLogprob, Usage
from tests.support.prompt_readers import WORDS
from tests.support.simulators import spread


@dataclass(frozen=True, kw_only=True)
class AnyModel:
    """What it says depends on the request alone."""

    model: str = "any"

    async def prepare(self, memory: Path | None = None) -> str:
        return "has: json_schema, top_logprobs, prompt_logprobs, max_tokens"

    async def generate(self, request: Request) -> Response:
        number = zlib.crc32(request.canonical_json().encode("utf-8", "surrogatepass"))
        text = _answer(request, number)
        logprobs = tuple(_token(each, number) for each in text) if request.top_logprobs else None
        n_prompt = sum(len(message.content) for message in request.messages) // 4
        return Response(text, Usage(n_prompt, len(text) // 4, 1), "stop", self.model, logprobs)

    async def read(self, request: PromptRequest) -> PromptLogprobs:
        found = [TokenLogprob(m[0], -1 - zlib.crc32(m[0].encode()) % 7, _levels(m[0])) for m in _pieces(request.text)]
        return PromptLogprobs(tuple(found), Usage(len(found), 0, 1), self.model)

    async def close(self) -> None:
        """Nothing is open."""


def _answer(request: Request, number: int) -> str:
    if request.schema is not None:
        return json.dumps(_instance(json.loads(request.schema), request, number))
    if request.sampling.max_tokens == 1:
        return str(number % 10)
    if "numbered texts" in request.messages[0].content:  # SAEBench wants numbers
        return "1, 3"
    label = f"words of kind {number}"
    return f"Explanation: {label}\nThis neuron activates on {label}\n[EXPLANATION]: {label}"


def _instance(schema: dict[str, Any], request: Request, number: int) -> Any:
    fields = schema["properties"]
    if "explanation" in fields:
        return {"explanation": f"words of kind {number}"}
    if "verdicts" in fields:
        return {"verdicts": [number >> i & 1 for i in range(fields["verdicts"]["minItems"])]}
    if "choice" in fields:
        return {"choice": number % len(fields["choice"]["enum"]) + 1}
    if "texts" in fields:
        return {
            "texts": [f"def load_{number % 1000}_{i}(self): return {i}" for i in range(fields["texts"]["minItems"])]
        }
    tokens = json.loads(request.messages[-1].content.partition(" tokens: ")[2])
    return {"tokens": [{"token": token, "level": (number >> i) % 11} for i, token in enumerate(tokens)]}


def _token(text: str, number: int) -> TokenLogprob:
    """A digit is a verdict or a level: both verdicts and some levels are among its alternatives."""
    share = 0.5 + number % 1000 / 2002
    listed = {"0": math.log(1 - share), "1": math.log(share)} if text.isdigit() else {text: -0.1}
    return TokenLogprob(text, -0.1, listed)


def _pieces(text: str) -> list[re.Match[str]]:
    return list(WORDS.finditer(text))


def _levels(text: str) -> dict[str, float]:
    """Where a level is unknown, some; elsewhere nothing."""
    return {level: math.log(p) for level, p in spread(2.5).items()} if text == "?" else {}
