"""What requests cost, and on whose account: prices, purposes and sums. Nothing here asks a model anything.

Who asks is not said in each call but in a context variable: the pipeline opens `spending_on(stage, feature)` around its
work on a feature, and every request inside, in tasks that it starts too, is put to that account.
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Price:
    """What one model charges at one endpoint; 0 for a server of one's own."""

    usd_per_million_prompt_tokens: float = 0.0
    usd_per_million_completion_tokens: float = 0.0

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Price of one answer, or of many."""
        prompt = prompt_tokens * self.usd_per_million_prompt_tokens
        return (prompt + completion_tokens * self.usd_per_million_completion_tokens) / 1e6


FREE = Price()


@dataclass(frozen=True, slots=True)
class Account:
    """Whom an answer is charged to."""

    stage: str = ""
    """`explain`, `score`, ...; empty for requests outside of a run's stages."""
    feature: str = ""
    """As `str(FeatureId)`; empty where a request is for no one feature."""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Spent:
    """A sum of what was asked and paid."""

    n_paid: int = 0
    """Completions that a server delivered whole, those without a usable answer included."""
    n_cached: int = 0
    """Answers that cost nothing: from the response cache, or shared with the same request in flight."""
    n_lost: int = 0
    """Requests that were sent and whose answer never arrived whole (a timeout, a broken connection): the server may or
    may not charge for them."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """Tokens of the paid completions, as the server counted them, or at most."""
    lost_tokens: int = 0
    """Most tokens that the lost ones can have taken."""
    usd: float = 0.0
    """Price of the paid ones, and of the lost ones at most."""
    n_uncounted: int = 0
    """Paid ones whose tokens the server did not count, or not so that it can be believed: they are charged at the most
    that they can be."""

    @property
    def tokens(self) -> int:
        """All tokens that may have to be paid for."""
        return self.prompt_tokens + self.completion_tokens + self.lost_tokens

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            self.n_paid + other.n_paid,
            self.n_cached + other.n_cached,
            self.n_lost + other.n_lost,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.lost_tokens + other.lost_tokens,
            self.usd + other.usd,
            self.n_uncounted + other.n_uncounted,
        )


NOTHING_SPENT = Spent()
PROBE = "probe"
"""Stage of what is asked to find out what an endpoint can do, for no feature."""

_purpose: ContextVar[tuple[str, str]] = ContextVar("purpose", default=("", ""))


@contextmanager
def spending_on(stage: str, feature: str) -> Generator[None, None, None]:
    """Charge every request inside to this stage and feature."""
    token = _purpose.set((stage, feature))
    try:
        yield
    finally:
        _purpose.reset(token)


_may_spend: ContextVar[bool] = ContextVar("may_spend", default=True)


@contextmanager
def spending_nothing() -> Generator[None, None, None]:
    """Inside, a question has its stored answer or none: nobody is asked."""
    token = _may_spend.set(False)
    try:
        yield
    finally:
        _may_spend.reset(token)


def may_spend() -> bool:
    """Whether a question that has no stored answer may be put."""
    return _may_spend.get()


def account_of(model: str) -> Account:
    """The account that a request made now is charged to."""
    return Account(*_purpose.get(), model)
