"""A finished run as people read it: a summary of values, a table for the terminal, a page for the browser.

Reads results.sqlite through `results` and computes with `metrics`; calls no model, and needs no torch. Whatever
comes from a model or a text (tokens, explanations, error messages) is treated as hostile and escaped.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
