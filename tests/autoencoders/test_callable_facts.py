"""Two functions that compute different things are never one coder: by what they hold, not by their source alone."""

import functools
import re
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sae_auto_interp.autoencoders import CallableCoder
from sae_auto_interp.errors import InputError

THRESHOLD = 1.0
PROBE = torch.ones(12, 2)


def facts(function: Any, **more: Any) -> Any:
    return CallableCoder(function, d_in=12, width=2, **more).encoding_facts()["function"]


def closing_over(value: Any) -> Callable[[Tensor], Tensor]:
    def probe(x: Tensor) -> Tensor:
        assert value is not None
        return x[:, :2]

    return probe


def without_source(function: Any) -> Any:
    """As typed into an interpreter, whose lines are not kept."""
    return types.FunctionType(function.__code__.replace(co_filename="<typed>"), globals(), "typed")


def scaled(x: Tensor, factor: float, *, shift: float = 0.0) -> Tensor:
    return factor * x[:, :2] + shift


def above(x: Tensor) -> Tensor:
    return (x[:, :2] - THRESHOLD).clamp(min=0)


def through_another(x: Tensor) -> Tensor:
    return above(x)


def projected(x: Tensor) -> Tensor:
    return (lambda y: y @ PROBE)(x)


@dataclass(frozen=True)
class Settings:
    threshold: float
    names: frozenset[str] = frozenset({"a", "b", "c"})


class Probe:
    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.weight

    def method(self, x: Tensor) -> Tensor:
        return 2 * x @ self.weight


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.inner = nn.Linear(12, 2, bias=False)
        nn.init.ones_(self.inner.weight)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.inner(x)


DIFFERENT: dict[str, Callable[[int], Any]] = {
    "closure of a number": lambda i: closing_over(i + 0.5),
    "closure of a tensor": lambda i: closing_over(torch.full((3,), i, dtype=torch.bfloat16)),
    "closure of an array": lambda i: closing_over(np.arange(4)[i:]),
    "closure of a shape": lambda i: closing_over(torch.zeros(6).view(2 + i, -1)),
    "closure of a list": lambda i: closing_over([{"a": (1, i)}, {"x", "y"}]),
    "closure of a pattern": lambda i: closing_over(re.compile("x" * 300 + str(i))),
    "closure of a path": lambda i: closing_over(Path(f"/{i}")),
    "closure of a function": lambda i: closing_over(closing_over(i)),
    "closure of a dataclass": lambda i: closing_over(Settings(float(i))),
    "closure of a module": lambda i: closing_over(Scaled(1.0 + i)),
    "partial": lambda i: functools.partial(scaled, factor=float(i)),
    "partial of a position": lambda i: functools.partial(scaled, PROBE, float(i)),
    "keyword of a partial": lambda i: functools.partial(scaled, factor=1.0, shift=float(i)),
    "default": lambda i: lambda x, n=i: n * x[:, :2],
    "keyword default": lambda i: lambda x, *, n=i: n * x[:, :2],
    "lambdas of one line": lambda i: [lambda x: x[:, :2], lambda x: 2 * x[:, :2]][i],
    "object": lambda i: Probe(PROBE + i),
    "method": lambda i: Probe(PROBE + i).method,
    "weights": lambda i: nn.Linear(12, 2 + i),
    "setting of a module": lambda i: Scaled(1.0 + i),
    "without source": lambda i: without_source([lambda x: x[:, :2], lambda x: 2 * x[:, :2]][i]),
}  # fmt: skip


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_a_function_holds_tells_it_apart(case: str) -> None:
    with torch.random.fork_rng():
        first, again, other = (torch.manual_seed(0) and facts(DIFFERENT[case](i)) for i in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("function", "name", "value"),
    [(above, "THRESHOLD", 2.0), (through_another, "THRESHOLD", 2.0), (projected, "PROBE", torch.zeros(12, 2))],
)
def test_globals_count_also_where_another_function_of_ours_reads_them(
    function: Any, name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = facts(function)
    monkeypatch.setitem(globals(), name, value)
    assert facts(function) != before
    monkeypatch.undo()
    assert facts(function) == before


@pytest.mark.parametrize("held", [open, object(), iter([1]), np.array([object()])])
def test_what_cannot_be_told_apart_needs_a_version(held: Any) -> None:
    if held is open:
        assert facts(closing_over(held)) == facts(closing_over(held)), "a builtin is known by its name"
        return
    coder = CallableCoder(closing_over([held]), d_in=12, width=2)
    with pytest.raises(
        InputError, match=r"value\[0\], which a function .*two of these cannot be told apart.* version="
    ):
        coder.encoding_facts()
    assert facts(closing_over(held), version="1") != facts(closing_over(held), version="2")


def test_what_a_function_counts_while_it_is_called_changes_nothing() -> None:
    seen: list[int] = []

    def counting(x: Tensor) -> Tensor:
        seen.append(len(x))
        return x[:, :2]

    coder = CallableCoder(counting, d_in=12, width=2)
    before = coder.encoding_facts()
    coder.encode(torch.ones(3, 12))
    assert seen == [3]
    assert coder.encoding_facts() == before


def test_what_refers_to_itself_has_an_end() -> None:
    held: list[Any] = [1]
    held.append(held)
    assert facts(closing_over(held)) == facts(closing_over(held))


def test_the_order_of_a_set_does_not_count() -> None:
    """That of strings is another in every process; of these numbers it is that in which they came."""
    one, other = {0, 8}, {8, 0}
    assert list(one) != list(other)
    assert facts(closing_over(one)) == facts(closing_over(other))
