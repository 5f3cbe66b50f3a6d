"""How many features are worked on at once: no more than it takes to keep the language model's limit used up.

The limit in the client is the only limit on requests. A feature begins with few requests (its explanation) and goes on
with many (its scores), so several must be on their way. With f features of r requests each, f * r requests are open or
yet to come; `ROUNDS` times the limit keeps enough of them open while the youngest features are still being explained.
More would only take memory, and make an interrupted run finish later. Where that turns out to be too few, because
explaining takes many rounds, the number grows.
"""

from math import ceil

from sae_auto_interp.pipeline.clients.request_counts import Traffic

ROUNDS = 4
FIRST = 8
"""Features at once before any is finished."""
LEAST = 4
GROWTH = 1.25


class FeatureWindow:
    """The size of the window, which changes while the run goes on."""

    def __init__(self, limit: int, traffic: Traffic) -> None:
        self._limit = limit
        self._traffic = traffic
        self._rounds = float(ROUNDS)
        self._n_finished = 0
        self._n_requests = 0

    def size(self) -> int:
        """Features at once; never more than there may be requests, for each has at least one to ask."""
        if not self._n_finished:
            return min(FIRST, self._limit)
        per_feature = max(1.0, self._n_requests / self._n_finished)
        return min(self._limit, max(LEAST, ceil(self._rounds * self._limit / per_feature)))

    def finished(self, n_requests: int) -> None:
        """A feature is done that took so many requests."""
        self._n_finished += 1
        self._n_requests += n_requests
        size = self.size()
        if n_requests and self._traffic.n_open < self._limit and size < min(self._limit, self._n_finished):
            self._rounds *= GROWTH
