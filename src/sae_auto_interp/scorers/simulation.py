"""Simulation by listing: a chat model repeats the tokens of a window as JSON, each with a level from 0 to 10.

It needs no log-probabilities, so any chat model will do (delphi's way for such; Bills et al. 2023 for the idea). The
reply is read strictly: a list of another length, other tokens than those shown, or a level that is no number from 0 to
10 is a failure of the window. The metrics are those of kind `simulation`: docs/methods/simulation.md.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from sae_auto_interp.errors import ClientError
from sae_auto_interp.prompting.asking import answered
from sae_auto_interp.prompting.prompts import load_prompt
from sae_auto_interp.protocols import Client
from sae_auto_interp.scorers._simulating import Levels, Simulated, Simulation
from sae_auto_interp.types import Failure, Message, Request, Sampling, Usage

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
                lambda reply: not isinstance(parse_levels(reply.text, str_tokens, self.max_level), Failure),
            )
        except ClientError as error:
            return Failure("score", error.kind, str(error)), Usage(n_requests=1)
        levels = parse_levels(response.text, str_tokens, self.max_level)
        if isinstance(levels, Failure) and response.finish_reason == "length":
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


def parse_levels(reply: str, str_tokens: Sequence[str], max_level: int) -> Levels | Failure:
    """The level of each token, or what is wrong with the list: `unparsable`, `wrong_length`, `other_tokens`,
    `not_numbers`, `out_of_range`."""

    def failure(kind: str, message: str) -> Failure:
        return Failure("score", kind, message, reply)

    entries = _listed(reply)
    if entries is None:
        return failure("unparsable", "the reply holds no JSON list of tokens with levels")
    if len(entries) != len(str_tokens):
        return failure("wrong_length", f"the reply has {len(entries)} levels for {len(str_tokens)} tokens")
    for place, (entry, token) in enumerate(zip(entries, str_tokens, strict=True), 1):
        if _without_spaces(entry["token"]) != _without_spaces(token):
            return failure("other_tokens", f"token {place} is {token!r}, and the reply has {entry['token']!r} there")
        if type(entry["level"]) not in (int, float):
            return failure("not_numbers", f"the level of token {place} is {entry['level']!r}")
        if not 0 <= entry["level"] <= max_level:  # NaN is in no range
            return failure("out_of_range", f"the level of token {place} is {entry['level']}, not 0 to {max_level}")
    return tuple(float(entry["level"]) for entry in entries)


def _listed(reply: str) -> list[dict[str, Any]] | None:
    """The entries of the reply's outermost list; None where it is none, or an entry lacks something."""
    begin, end = reply.find("["), reply.rfind("]")
    try:
        entries: Any = json.loads(reply[begin : end + 1])
    except (ValueError, RecursionError):
        return None
    if not isinstance(entries, list):
        return None
    found = [_entry(entry) for entry in cast("list[object]", entries)]
    return None if None in found else [entry for entry in found if entry is not None]


def _entry(entry: object) -> dict[str, Any] | None:
    """An entry with all that it must have."""
    fields = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
    return fields if {"token", "level"} <= fields.keys() else None


def _without_spaces(token: object) -> str | None:
    """What must come back of a token: models drop spaces at its ends, and write half a character as they like."""
    return "".join(token.split()).replace("\ufffd", "") if isinstance(token, str) else None


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object", "properties": properties, "required": [*properties], "additionalProperties": False,
    }  # fmt: skip
