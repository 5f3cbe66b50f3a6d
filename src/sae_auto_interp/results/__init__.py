"""What a run has produced: one SQLite file per run directory, append-only, written by one process at a time.

Records, explanations, failures and scores (as trials, never as metrics) go in; the same frozen values come out.
Everything a report needs is here, so it reads this file and nothing else.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sae_auto_interp.results.store import RESULTS_FILE, ResultStore

__all__ = ["RESULTS_FILE", "ResultStore"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.store"), name)


def __dir__() -> list[str]:
    return __all__
