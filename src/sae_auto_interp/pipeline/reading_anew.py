"""Results that an older reader of replies made are made anew, from answers that are stored and at no cost.

A run notes, for each explainer and each pair of scorer and judge, the version of the readers. Where a finished unit is
older, its work is done again inside `spending_nothing`: questions have their stored answers or none. What is whole
then takes the old result's place. Where an answer is not stored any more, the unit stays as it is, counted and said.
An interrupted run begins with this again, which costs nothing either.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sae_auto_interp.pipeline.units import may_heal
from sae_auto_interp.pipeline.workers import CRASHED
from sae_auto_interp.results import ResultStore
from sae_auto_interp.types import Failure

FIRST_VERSION = "1"


@dataclass
class ReadingAnew:
    """The units of a stage that an older reader read, and what became of them."""

    stage: str
    store: ResultStore
    is_possible: bool
    """False where no answers are stored: then nothing is read anew."""
    units: set[str] = field(default_factory=set[str], init=False)
    """Those that are still to be read anew."""
    _versions: dict[str, str] = field(default_factory=dict[str, str], init=False)
    _n: int = field(default=0, init=False)
    _n_changed: int = field(default=0, init=False)
    _n_kept: int = field(default=0, init=False)

    def watch(self, versions: Mapping[str, str], finished: Iterable[str]) -> None:
        """Find the older ones among the finished units.

        `versions`: {what the units of a component begin with: the version of its reader now}.
        """
        known = self.store.info()
        listed = [*finished]
        for component, version in versions.items():
            own = {unit for unit in listed if unit.startswith(f"{component}/")}
            if own and known.get(_key(component), FIRST_VERSION) != version:
                self.units |= own
            elif not own and known.get(_key(component)) != version:
                self.store.set_info(_key(component), version)
        self._versions = dict(versions)
        self._n = len(self.units)
        if not self.is_possible:
            self.units.clear()

    def take(self, unit: str) -> bool:
        """Whether a unit is to be read anew; only once."""
        if unit not in self.units:
            return False
        self.units.remove(unit)
        return True

    def is_answered(self, failures: Iterable[Failure]) -> bool:
        """Whether all of a unit's questions had their answers; else the old result stays, which is counted."""
        lacks = any(may_heal(failure) or failure.kind == CRASHED for failure in failures)
        self._n_kept += lacks
        return not lacks

    def changed(self) -> None:
        """One more unit has another result than before."""
        self._n_changed += 1

    def announcement(self) -> str | None:
        """One line before the work; None where nothing is to be read anew."""
        if not self._n:
            return None
        what = f"{self.stage}: {self._n:,} finished units were made by an older reader of replies"
        if not self.is_possible:
            return f"{what}; they stay as they are, as responses.mode is off"
        return f"{what}; their stored answers are read anew, which asks nobody"

    def finish(self) -> str | None:
        """Note that all is read; one line on what came of it."""
        if not self.is_possible or not self._n:
            return None
        for component, version in self._versions.items():
            self.store.set_info(_key(component), version)
        n_kept = self._n_kept + len(self.units)
        kept = f"; {n_kept:,} stay as they are: not all their answers are stored" if n_kept else ""
        return f"{self.stage}: {self._n:,} units read anew, {self._n_changed:,} with another result{kept}"


def _key(component: str) -> str:
    return f"reader of {component}"
