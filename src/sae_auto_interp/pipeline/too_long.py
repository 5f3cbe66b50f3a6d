"""Stops a run in which no prompt fits into the served context, however short it was made.

A single request says nothing here: an explainer asks with fewer examples until its prompt fits, and with many of them
at once the first tries are all refused. What counts is that units of work failed, one after the other, and that no
request at all was answered in between.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from sae_auto_interp.errors import EndpointLostError, PromptTooLongError
from sae_auto_interp.pipeline.clients.request_counts import RequestCounts
from sae_auto_interp.results.failure_kinds import in_short
from sae_auto_interp.types import Failure


@dataclass
class TooLongStreak:
    """Shared by the stages of a run."""

    request_counts: RequestCounts
    limit: int
    n_units: int = field(default=0, init=False)
    _n_answered: int = field(default=-1, init=False)

    def add(self, failures: Iterable[Failure]) -> None:
        """One more unit, with its failures; raises EndpointLostError where it is the last of `limit` in a row."""
        failure = next((f for f in failures if f.kind == PromptTooLongError.kind), None)
        if failure is None:
            return
        answered = self.request_counts.n_answered + self.request_counts.n_read
        self.n_units = self.n_units + 1 if answered == self._n_answered else 1
        self._n_answered = answered
        if self.n_units >= self.limit:
            raise EndpointLostError(
                f"{self.n_units:,} explanations or scores in a row failed because the prompt does not fit into the "
                f"context of the model ({in_short(failure.message)}); show fewer examples (n_examples of the "
                "explainer, n_shown of the scorer), choose shorter windows (features.window) or serve a longer "
                "context; what is done is kept: the same command goes on then, with --retry-failed for what failed"
            )
