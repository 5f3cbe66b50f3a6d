"""Scores -> Estimates: pure functions that call no model and read no file.

An `Estimate` always carries its interval, the number of judged trials (or features) behind it and the number
that failed. A metric that cannot be computed is an `Estimate` without a value and with a reason: never NaN,
never 0, never an exception. Re-analysing a finished run costs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
