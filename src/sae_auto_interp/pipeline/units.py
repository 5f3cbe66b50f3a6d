"""What the stages work on, and when a piece of work counts as done.

A failure that may heal by itself (a server that was away, too many requests) is stored so that it is seen and
counted, but its unit stays open: the next run tries it again. Anything else is final and is not paid for twice.
"""

from sae_auto_interp.config import fingerprint
from sae_auto_interp.errors import RETRYABLE_KINDS, RunDirectoryError
from sae_auto_interp.results import ResultStore
from sae_auto_interp.types import Failure, FeatureId, FeatureRecord, Score


class Evidence:
    """A feature and its record.

    The record is the one that was just built, rounded as the store rounds it, or the stored one: both are equal, so
    a run that is resumed asks what an uninterrupted one asks.
    """

    __slots__ = ("_record", "_store", "feature")

    def __init__(self, feature: FeatureId, store: ResultStore, record: FeatureRecord | None = None) -> None:
        self.feature = feature
        self._store = store
        self._record = record

    @property
    def record(self) -> FeatureRecord:
        """Read from the store the first time it is asked for, unless it was just built."""
        if self._record is None:
            self._record = self._store.record(self.feature)
            assert self._record is not None, f"{self.feature} has no record"
        return self._record

    def without_record(self) -> "Evidence":
        """The same without the record, for one that waits long."""
        return Evidence(self.feature, self._store)


def may_heal(failure: Failure) -> bool:
    """Whether the same work may succeed another time."""
    return failure.kind in RETRYABLE_KINDS


def open_failure(score: Score) -> Failure | None:
    """The first failed trial that may succeed another time; a score that has one is not stored."""
    return next((failure for failure in score.failures if may_heal(failure)), None)


def store_open_failure(store: ResultStore, unit: str, failure: Failure) -> None:
    """Keep a failure of a unit that stays open, in place of what an earlier try left."""
    store.clear_failures(unit)
    store.add_failure(failure, unit)


def claim_component(store: ResultStore, key: str, settings: object) -> None:
    """Note a component's settings with the run; refuse other settings under the same name."""
    wanted = fingerprint(settings)
    found = store.info().get(key)
    if found is None:
        store.set_info(key, wanted)
    elif found != wanted:
        raise RunDirectoryError(
            f"this run directory holds results of {key} with other settings (or another model); "
            "choose another directory"
        )
