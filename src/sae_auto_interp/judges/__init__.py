"""Judges: (explanation, shown examples) -> verdicts. Any judge serves any classification scorer.

A judge sees tokens and marks, never an activation and never which examples are which.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
