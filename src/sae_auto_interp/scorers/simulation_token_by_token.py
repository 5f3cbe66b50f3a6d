"""Simulation token by token: one request per token, answered by one token of which the server gives alternatives.

The model is shown the description, the window up to a token and that token once more, and its distribution over "0" to
"10" gives the expected level (S. Bills et al. 2023, there the form that all-at-once replaced). It needs the
log-probabilities of generated tokens only, which more servers give than those of a prompt's. It is costly: a window of
32 tokens is 32 requests. So it takes few windows by default.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sae_auto_interp.errors import ClientError, ConfigError
from sae_auto_interp.prompting.asking import answered
from sae_auto_interp.prompting.prompts import load_prompt
from sae_auto_interp.protocols import Client
from sae_auto_interp.scorers._levels import level_of
from sae_auto_interp.scorers._simulating import Simulated, Simulation
from sae_auto_interp.types import Failure, Message, Request, Response, Sampling, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenByTokenSimulationScorer(Simulation):
    """One request per token of each window."""

    name: ClassVar[str] = "simulation_token_by_token"

    client: Client
    n_windows: int | None = 10
    top_logprobs: int = 15
    """Alternatives asked for; most servers allow 20 at most."""

    def __post_init__(self) -> None:
        Simulation.__post_init__(self)
        if self.top_logprobs < 2:
            raise ConfigError(f"scorers.{self.name}.top_logprobs={self.top_logprobs}; give at least 2, e.g. 15")

    @property
    def judged_by(self) -> str:
        return f"llm:{self.client.model}"

    async def simulate(self, explanation: str, str_tokens: Sequence[str]) -> Simulated:
        tokens = range(1, len(str_tokens) + 1)
        answers = await asyncio.gather(*(self._level(explanation, str_tokens[:n]) for n in tokens))
        usage = sum((spent for _, spent in answers), Usage())
        failure = next((level for level, _ in answers if isinstance(level, Failure)), None)
        return failure or tuple(level for level, _ in answers if not isinstance(level, Failure)), usage

    def request(self, explanation: str, str_tokens: Sequence[str]) -> Request:
        """The request for the last of some tokens."""
        system = load_prompt("scorers", self.name).fill(max_level=str(self.max_level))
        shown = (json.dumps(text, ensure_ascii=False) for text in ("".join(str_tokens), str_tokens[-1]))
        question = "Description: {}\n\nText: {}\nLast token: {}".format(explanation, *shown)
        messages = (Message("system", system), Message("user", question))
        return Request(messages, Sampling(max_tokens=1), top_logprobs=self.top_logprobs)

    def _is_readable(self, response: Response) -> bool:
        found = response.logprobs
        return bool(found) and not isinstance(level_of(found[0].alternatives, self.max_level, ""), Failure)

    async def _level(self, explanation: str, str_tokens: Sequence[str]) -> tuple[float | Failure, Usage]:
        try:
            response = await answered(self.client, self.request(explanation, str_tokens), self._is_readable)
        except ClientError as error:
            return Failure("score", error.kind, str(error)), Usage(n_requests=1)
        if not response.logprobs:
            message = f"{response.model} gave no log-probabilities of its answer; use scorer simulation with it"
            return Failure("score", "no_logprobs", message, response.text), response.usage
        where = f"token {len(str_tokens)}"
        return level_of(response.logprobs[0].alternatives, self.max_level, where), response.usage
