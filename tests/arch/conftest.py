"""Looking for garbage among the trees of all files takes longer than parsing them: these tests do without."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def _no_garbage_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()
