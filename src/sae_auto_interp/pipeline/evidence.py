"""One feature on its way through the stages, with the record that is read only where something is left to do."""

from sae_auto_interp.results import ResultStore
from sae_auto_interp.types import FeatureId, FeatureRecord


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

    def forgotten(self) -> "Evidence":
        """The same without the record, for one that waits long."""
        return Evidence(self.feature, self._store)
