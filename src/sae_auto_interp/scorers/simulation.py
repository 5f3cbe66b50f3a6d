"""Simulation by listing: a chat model repeats the tokens of a window as JSON, each with a level from 0 to 10.

It needs no log-probabilities, so any chat model will do (delphi's way for such; Bills et al. 2023 for the idea). The
reply is read strictly: a list of another length, other tokens than those shown, or a level that is no number from 0 to
10 is a failure of the window. The metrics are those of kind `simulation`: docs/methods/simulation.md.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sae_auto_interp.errors import ClientError
from sae_auto_interp.prompting.answers import AnswerForm, is_cut_off
from sae_auto_interp.prompting.asking import answered, unanswered
from sae_auto_interp.prompting.json_in_text import Value, number_in
from sae_auto_interp.prompting.prompts import load_prompt
from sae_auto_interp.protocols import Client
from sae_auto_interp.scorers._simulating import Levels, Simulated, Simulation
from sae_auto_interp.types import Failure, Message, Request, Response, Sampling, Usage

TOKENS_PER_ENTRY = 24
"""Room in the answer for one token and its level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationScorer(Simulation):
    """One request per window."""

    name: ClassVar[str] = "simulation"

    client: Client
    structured: bool = True
    """Send the answer's JSON schema; servers that ignore it are read as text just the same."""
    temperature: float = 0.0
    spare_tokens: int = 40
    """Tokens of an answer beyond its list; raise it for a model that thinks before it answers."""

    @property
    def judged_by(self) -> str:
        return f"llm:{self.client.model}"

    async def simulate(self, explanation: str, str_tokens: Sequence[str]) -> Simulated:
        try:
            response = await answered(
                self.client,
                self.request(explanation, str_tokens),
                lambda reply: not isinstance(parse_levels(reply, str_tokens, self.max_level), Failure),
            )
        except ClientError as error:
            return unanswered(error, f"scorers.{self.name}.spare_tokens"), Usage(n_requests=1)
        levels = parse_levels(response, str_tokens, self.max_level)
        if isinstance(levels, Failure) and is_cut_off(response):
            cut = f"{levels.message}: it was cut off; raise scorers.{self.name}.spare_tokens"
            levels = Failure(levels.stage, levels.kind, cut, levels.raw)
        return levels, response.usage

    def request(self, explanation: str, str_tokens: Sequence[str]) -> Request:
        """The request for one window; the same window gives the same request."""
        system = load_prompt("scorers", self.name).fill(max_level=str(self.max_level))
        shown = json.dumps(list(str_tokens), ensure_ascii=False)
        question = f"Description: {explanation}\n\n{len(str_tokens)} tokens: {shown}"
        example = [load_prompt("scorers", f"{self.name}_example_{role}").template for role in ("user", "assistant")]
        messages = (
            Message("system", system), Message("user", example[0]), Message("assistant", example[1]),
            Message("user", question),
        )  # fmt: skip
        sampling = Sampling(self.temperature, self.spare_tokens + TOKENS_PER_ENTRY * len(str_tokens))
        return Request(messages, sampling, self._schema(len(str_tokens)) if self.structured else None)

    def _schema(self, n: int) -> str:
        entry = _object(
            {"token": {"type": "string"}, "level": {"type": "integer", "enum": [*range(self.max_level + 1)]}}
        )
        listed = {"type": "array", "items": entry, "minItems": n, "maxItems": n}
        return json.dumps(_object({"tokens": listed}), sort_keys=True)


def parse_levels(response: Response, str_tokens: Sequence[str], max_level: int) -> Levels | Failure:
    """The level of each token, or what is wrong with the list: `unparsable`, `wrong_length`, `other_tokens`,
    `not_numbers`, `out_of_range`."""

    def failure(kind: str, message: str) -> Failure:
        return Failure("score", kind, message, response.text)

    entries = AnswerForm(read=_entries, key="tokens").answer(response)
    if entries is None:
        return failure("unparsable", "the reply holds no JSON list of tokens with levels")
    if len(entries) != len(str_tokens):
        return failure("wrong_length", f"the reply has {len(entries)} levels for {len(str_tokens)} tokens")
    levels: list[float] = []
    for place, ((own, written), token) in enumerate(zip(entries, str_tokens, strict=True), 1):
        level = number_in(written)
        if _without_spaces(own) != _without_spaces(token):
            return failure("other_tokens", f"token {place} is {token!r}, and the reply has {own[:80]!r} there")
        if level is None:
            return failure("not_numbers", f"the level of token {place} is {written[:80]!r}")
        if not 0 <= level <= max_level:
            return failure("out_of_range", f"the level of token {place} is {written}, not 0 to {max_level}")
        levels.append(level)
    return tuple(levels)


def _entries(value: Value) -> Sequence[tuple[str, str]] | None:
    """Token and level of each entry of a list, as they were written; None where an entry lacks one, or is none."""
    entries = [(item.get("token"), item.get("level")) for item in value.items]
    whole = tuple(
        (token.text, level.text)
        for token, level in entries
        if token is not None and level is not None and {token.kind, level.kind} <= {"string", "word"}
    )
    return whole if value.kind == "list" and len(whole) == len(entries) else None


def _without_spaces(token: str) -> str:
    """What must come back of a token: models drop spaces at its ends, and write half a character as they like."""
    return "".join(token.split()).replace("\ufffd", "")


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object", "properties": properties, "required": [*properties], "additionalProperties": False,
    }  # fmt: skip
