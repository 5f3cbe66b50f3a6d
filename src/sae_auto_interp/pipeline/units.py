"""When a piece of work counts as done.

A failure that may heal by itself (a server that was away, too many requests) is stored so that it is seen and
counted, but its unit stays open: the next run tries it again. Anything else is final and is not paid for twice.
"""

from sae_auto_interp.config import fingerprint
from sae_auto_interp.errors import RETRYABLE_KINDS, RunDirectoryError
from sae_auto_interp.results import ResultStore
from sae_auto_interp.types import Failure, Score


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
