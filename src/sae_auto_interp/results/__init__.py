"""What a run has produced: one SQLite file per run directory, append-only, written by one process at a time.

Records, explanations, failures and scores (as trials, never as metrics) go in; the same frozen values come out.
Everything a report needs is here, so it reads this file and nothing else.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
