"""Tiny models, on one thread: two would only wait for each other."""

from collections.abc import Iterator
from typing import Any

import pytest

from sae_auto_interp.types import TokenRows
from tests.support.records import make_rows, tiny_world


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world() -> tuple[Any, dict[str, Any]]:
    return tiny_world()


@pytest.fixture(scope="module")
def rows() -> TokenRows:
    return make_rows(n_rows=11, bos=0, seed=3)
