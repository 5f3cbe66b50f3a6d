"""Keeps Python's garbage collector away from what was loaded before a run.

A full collection looks at every object that may be part of a cycle, the million that torch and transformers make when
they are imported among them: about 0.14 s, every few seconds, in which no request leaves. Frozen objects are not looked
at; what the run itself makes is collected as ever.
"""

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def frozen_heap() -> Generator[None, None, None]:
    """What exists on entering is not looked at until the block ends. Inside another one it does nothing."""
    is_outermost = gc.get_freeze_count() == 0
    if is_outermost:
        gc.freeze()
    try:
        yield
    finally:
        if is_outermost:
            gc.unfreeze()
