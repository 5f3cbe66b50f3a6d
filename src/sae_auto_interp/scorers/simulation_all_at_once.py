"""Simulation all at once: one text per window; its levels are read from the probabilities of the text's own tokens.

Every token stands on a line with a tab and a question mark in place of its level. What the model would have put there
instead, its distribution over "0" to "10" at that place, gives the expected level of the token: all of a window's
levels for one reading and no generated token (S. Bills et al., Language models can explain neurons, 2023).

It needs a model that rates given text (`PromptReader`). OpenAI writes "unknown" for the level; we write "?", since
many tokenizers (cl100k, Llama 3, Qwen) join a tab with the letters behind it, and the place then has no token of its
own. `unknown: unknown` is OpenAI's form. A place where no token begins is a failure, never a level of 0.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from sae_auto_interp.errors import ClientError, ConfigError
from sae_auto_interp.prompting.prompts import load_prompt
from sae_auto_interp.protocols import PromptReader
from sae_auto_interp.scorers._levels import level_of, one_line
from sae_auto_interp.scorers._simulating import Levels, Simulated, Simulation
from sae_auto_interp.types import Failure, PromptRequest, TokenLogprob, Usage

END = "<end>"


@dataclass(frozen=True, slots=True, kw_only=True)
class AllAtOnceSimulationScorer(Simulation):
    """One reading per window."""

    name: ClassVar[str] = "simulation_all_at_once"

    reader: PromptReader
    unknown: str = "?"
    """What stands in place of a level."""
    top_logprobs: int = 15
    """Alternatives asked for at each token; levels beyond them count as 0."""

    def __post_init__(self) -> None:
        Simulation.__post_init__(self)
        if not self.unknown.strip() or self.unknown[0].isspace():
            raise ConfigError(f"scorers.{self.name}.unknown={self.unknown!r}; give a word or a sign, e.g. '?'")
        if self.top_logprobs < 2:
            raise ConfigError(f"scorers.{self.name}.top_logprobs={self.top_logprobs}; give at least 2, e.g. 15")

    @property
    def judged_by(self) -> str:
        return f"llm:{self.reader.model}"

    async def simulate(self, explanation: str, str_tokens: Sequence[str]) -> Simulated:
        request, places = self.request(explanation, str_tokens)
        try:
            found = await self.reader.read(request)
        except ClientError as error:
            return Failure("score", error.kind, str(error)), Usage(n_requests=1)
        return self._levels(found.tokens, places), found.usage

    def request(self, explanation: str, str_tokens: Sequence[str]) -> tuple[PromptRequest, list[int]]:
        """The text for one window, and the offsets at which the unknown levels stand in it."""
        prompt = load_prompt("scorers", self.name)
        text = prompt.fill(max_level=str(self.max_level), unknown=self.unknown, explanation=explanation) + "\n"
        places: list[int] = []
        for token in str_tokens:
            text += f"{one_line(token)}\t"
            places.append(len(text))
            text += f"{self.unknown}\n"
        return PromptRequest(text + END, self.top_logprobs), places

    def _levels(self, tokens: Sequence[TokenLogprob], places: Sequence[int]) -> Levels | Failure:
        alternatives_at = _alternatives_by_offset(tokens)
        levels: list[float] = []
        for number, place in enumerate(places, 1):
            if place not in alternatives_at:
                return _not_alone(number, self.unknown)
            level = level_of(alternatives_at[place], self.max_level, f"token {number}")
            if isinstance(level, Failure):
                return level
            levels.append(level)
        return tuple(levels)


def _alternatives_by_offset(tokens: Sequence[TokenLogprob]) -> dict[int, Mapping[str, float]]:
    """What might have stood at each place of the text at which a token begins."""
    ends = itertools.accumulate((len(token.token) for token in tokens), initial=0)
    return {begin: token.alternatives for begin, token in zip(ends, tokens, strict=False)}


def _not_alone(number: int, unknown: str) -> Failure:
    message = (
        f"the simulator's tokenizer joins the unknown level {unknown!r} of token {number} with what stands before it; "
        "set unknown to a sign that it keeps apart, e.g. '?'"
    )
    return Failure("score", "not_aligned", message)
