"""Replies through the same road as in a run: an OpenAI-style body is decoded, then the judge or scorer reads it."""

import ast
import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae_auto_interp.clients.http.chat_completions import decode_reply
from sae_auto_interp.judges import LlmJudge
from sae_auto_interp.scorers import SimulationScorer
from sae_auto_interp.scorers._writing import write
from sae_auto_interp.types import Failure, Message, Request, Response, ShownExample

FAILURE = "failure"
EXAMPLE = ShownExample(("The", " cat"))


@dataclass(frozen=True)
class DecodingClient:
    """Answers everything with one body."""

    text: str
    finish_reason: str = "stop"
    model: str = "m"

    async def generate(self, request: Request) -> Response:
        choice = {"message": {"role": "assistant", "content": self.text}, "finish_reason": self.finish_reason}
        return decode_reply({"choices": [choice], "model": "m", "usage": {}}, self.model, repr)

    async def close(self) -> None:
        """Nothing is open."""


def cases() -> list[dict[str, Any]]:
    """The entries of replies.json that judges and scorers read."""
    lines = Path(__file__).with_name("replies.json").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line.rstrip(",")) for line in lines if line.startswith("{")]
    return [entry for entry in entries if not entry["task"].startswith("explainer:")]


def text_of(case: dict[str, Any]) -> str:
    """The reply; a long one is an expression of strings and numbers."""
    if "reply" in case:
        return case["reply"]
    text = _value(ast.parse(case["reply_python"], mode="eval").body)
    assert isinstance(text, str), case["id"]
    return text


def _value(node: ast.expr) -> Any:
    """Of constants, sums and products; anything else is an error."""
    if isinstance(node, ast.Constant):
        return node.value
    assert isinstance(node, ast.BinOp), ast.dump(node)
    left, right = _value(node.left), _value(node.right)
    return left + right if isinstance(node.op, ast.Add) else left * right


def outcome(task: str, text: str, finish_reason: str = "stop", *, n: int = 5, tokens: tuple[str, ...] = ()) -> object:
    """What a reply comes to, in the terms of replies.json."""
    client = DecodingClient(text, finish_reason)
    judge = LlmJudge(client=client)
    if task == "choice":
        preferred, _ = asyncio.run(judge.choose("cats", [EXAMPLE] * n, "discrimination"))
        return FAILURE if isinstance(preferred, Failure) else 1 + list(preferred).index(1.0)
    if task == "simulation":
        levels, _ = asyncio.run(SimulationScorer(client=client).simulate("cats", tokens))
        return FAILURE if isinstance(levels, Failure) else list(levels)
    if task == "generation":
        written, _ = asyncio.run(write(client, Request((Message("user", "?"),)), n))
        assert len(written) == n
        return FAILURE if any(isinstance(each, Failure) for each in written) else written
    verdicts, _ = asyncio.run(judge.judge("cats", [EXAMPLE] * n, task))
    assert len(verdicts) == n, "never more or fewer verdicts than asked"
    if any(isinstance(verdict, Failure) for verdict in verdicts):
        return FAILURE
    matches = [verdict.matches for verdict in verdicts if not isinstance(verdict, Failure)]
    return [int(m) for m in matches] if task == "detection" else [i for i, m in enumerate(matches, 1) if m]


def outcome_of(case: dict[str, Any]) -> object:
    """What an entry of replies.json comes to."""
    tokens = tuple(case.get("tokens", ()))
    return outcome(case["task"], text_of(case), case.get("finish_reason", "stop"), n=case.get("n", 1), tokens=tokens)
