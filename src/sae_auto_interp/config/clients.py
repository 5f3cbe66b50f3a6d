"""The run file's sections about language models: endpoints, prices, the budget, and the cache of answers.

client: {base_url: "http://127.0.0.1:8000/v1", model: ..., max_concurrency: 64}
explainer_client, scorer_client: the same, where explaining and scoring have endpoints of their own
budget: {max_usd: 5, max_tokens: 20000000}
responses: {mode: use, path: ..., max_mib: 4096}
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sae_auto_interp.types.spending import Price


class Section(BaseModel):
    """A part of the run file; a key that it does not have is refused, and so is a number that is none or has no end."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PriceConfig(Section):
    """What the endpoint charges, in US dollars per million tokens; look it up, and note the day you did."""

    usd_per_million_prompt_tokens: float = Field(ge=0)
    usd_per_million_completion_tokens: float = Field(ge=0)

    @property
    def price(self) -> Price:
        return Price(self.usd_per_million_prompt_tokens, self.usd_per_million_completion_tokens)


class ClientConfig(Section):
    """A language-model endpoint. The key comes from the environment and is never stored."""

    kind: str = "openai"
    """Which client: `openai` (and what is compatible), `anthropic`, `transformers`, ...: docs/clients.md."""
    base_url: str | None = None
    """Where it is; None: the kind's own place, or no place at all (`transformers`)."""
    model: str | None = None
    """None takes the only model that the server lists."""
    api_key_env: str | None = Field(default=None, pattern="^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable that holds the key; None: the kind's own (`OPENAI_API_KEY`)."""
    options: dict[str, Any] = {}
    """Further settings of the kind, by name."""
    max_concurrency: int = Field(default=16, ge=1)
    """Requests in flight at most."""
    adaptive: bool = True
    """Have fewer in flight while the server is overloaded (429, 503, no answer in time)."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """What the provider allows; None: no such limit."""
    tokens_per_minute: float | None = Field(default=None, gt=0)
    """The same of tokens, those of the prompt and the whole answer that is allowed."""
    timeout_seconds: float = Field(default=120.0, gt=0)
    """Longest wait for one complete answer."""
    attempts: int = Field(default=6, ge=1)
    """How often one request is asked at most."""
    give_up_seconds: float = Field(default=1800.0, gt=0)
    """How long the run waits for a server that is away before it stops."""
    max_same_refusals: int = Field(default=20, ge=1)
    """The run stops after this many refusals in a row in the same words (4xx), with nothing answered in between."""
    price: PriceConfig | None = None
    """None counts tokens and no money."""
    namespace: str = ""
    """Keeps stored answers apart from those of another server that has a model of the same name."""


class BudgetConfig(Section):
    """What the run may spend at most, over all of its processes; None: no cap."""

    max_usd: float | None = Field(default=None, ge=0)
    """US dollars; needs the price of every endpoint."""
    max_tokens: int | None = Field(default=None, ge=0)
    """Tokens of prompts and answers together."""


class ResponsesConfig(Section):
    """The cache of answers, shared by all runs; changes no result."""

    mode: Literal["use", "off", "replay"] = "use"
    """`replay` asks no server: what is not stored fails."""
    path: str | None = None
    """Its file, on a local disk; None: in the user's folder for caches."""
    max_mib: int = Field(default=4096, ge=1)
    """What was used longest ago goes first."""
