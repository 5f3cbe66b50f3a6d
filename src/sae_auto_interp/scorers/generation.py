"""Generation: texts written for the explanation must make the feature fire, and near misses must not.

A language model reads the explanation alone and writes texts to which it applies; the subject model with its
autoencoder says where the feature fires (EleutherAI's blog on automated interpretability, 2024). TPR is the share
of texts that it fires on, the generation score of the literature. It sees what the explanation claims too much, and
is blind to what it leaves out. In boundary generation the model writes near misses; TNR is the share of them on
which the feature is silent. Nothing that is shown comes from the record, so the texts cannot be the explainer's.
"""

import asyncio
from dataclasses import dataclass
from typing import ClassVar

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.prompting.prompts import load_prompt
from sae_auto_interp.protocols import ActivationReader, Client
from sae_auto_interp.scorers._writing import TOKENS_PER_TEXT, Written, texts_schema, trials_of, write
from sae_auto_interp.types import Explanation, FeatureRecord, Message, Request, Sampling, Score, Usage

BOUNDARY = "generation_boundary"


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationScorer:
    """One request for texts, one for near misses, and one forward pass over both."""

    name: ClassVar[str] = "generation"
    prompt_names: ClassVar[tuple[str, ...]] = ("generation", BOUNDARY)

    client: Client
    reader: ActivationReader
    n_texts: int = 10
    n_boundary: int = 10
    """Near misses; 0 leaves them out, and then balanced accuracy is undefined."""
    threshold: float = 0.0
    """Fraction of the feature's largest activation above which it counts as firing; 0: it fires at all."""
    structured: bool = True
    """Send the answer's JSON schema; servers that ignore it are read as text just the same."""
    temperature: float = 0.0
    spare_tokens: int = 100
    """Tokens of an answer beyond its texts; raise it for a model that thinks before it answers."""

    def __post_init__(self) -> None:
        if self.n_texts < 1 or self.n_boundary < 0:
            counts = f"n_texts={self.n_texts}, n_boundary={self.n_boundary}"
            raise ConfigError(f"scorers.{self.name}: {counts}; give at least 1 text, and no less than 0 near misses")
        if not 0 <= self.threshold < 1:
            raise ConfigError(f"scorers.{self.name}.threshold={self.threshold}; give a fraction from 0 to below 1")

    @property
    def judged_by(self) -> str:
        return f"llm:{self.client.model}"

    async def score(self, record: FeatureRecord, explanation: Explanation, explanation_id: str) -> Score:
        (texts, cost), (misses, other) = await asyncio.gather(
            self._written(explanation.text, self.name, self.n_texts),
            self._written(explanation.text, BOUNDARY, self.n_boundary),
        )
        written = [(text, True) for text in texts] + [(text, False) for text in misses]
        trials = await trials_of(self.reader, record, written, self.threshold)
        return Score(record.feature, self.name, explanation_id, "classification", trials, cost + other)

    async def _written(self, explanation: str, prompt: str, n: int) -> tuple[list[Written], Usage]:
        return await write(self.client, self.request(explanation, prompt, n), n) if n else ([], Usage())

    def request(self, explanation: str, prompt: str, n: int) -> Request:
        """The request for `n` texts, by the prompt `generation` or `generation_boundary`."""
        system = load_prompt("scorers", prompt).fill(n=str(n))
        messages = (Message("system", system), Message("user", f"Description: {explanation}"))
        sampling = Sampling(self.temperature, self.spare_tokens + TOKENS_PER_TEXT * n)
        return Request(messages, sampling, texts_schema(n) if self.structured else None)
