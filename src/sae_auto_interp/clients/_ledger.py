"""`Ledger`: what a run has spent, by stage, feature and model; totals at once, changes for whoever stores them."""

from collections import defaultdict
from collections.abc import Callable, Mapping

from sae_auto_interp.types.spending import NOTHING_SPENT, Account, Spent, account_of


def _tell_no_one() -> None:
    """For a ledger that nobody stores."""


class Ledger:
    """Begins with what earlier processes of the run spent; one ledger counts for all clients of a run."""

    def __init__(self, before: Spent = NOTHING_SPENT, on_change: Callable[[], None] = _tell_no_one) -> None:
        """`on_change` is called after the first change since `take_changes`, from within the event loop."""
        self.total = before
        self._changes: dict[Account, Spent] = defaultdict(Spent)
        self._on_change = on_change

    def add(self, model: str, spent: Spent) -> None:
        """Charge to whoever asks now (`spending.spending_on`)."""
        is_first = not self._changes
        self._changes[account_of(model)] += spent
        self.total += spent
        if is_first:
            self._on_change()

    def add_cached(self, model: str) -> None:
        """Count an answer that cost nothing."""
        self.add(model, Spent(n_cached=1))

    def take_changes(self) -> Mapping[Account, Spent]:
        """What came since the last call."""
        taken, self._changes = self._changes, defaultdict(Spent)
        return taken
