"""The public names, each with the module that it is in; they load when they are first used."""

from .store import RESULTS_FILE as RESULTS_FILE, ResultStore as ResultStore

__all__: list[str]
