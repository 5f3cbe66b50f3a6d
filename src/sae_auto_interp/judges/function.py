"""A Python function as judge: (explanation, shown example) -> fits or not, or how probably.

For rules of one's own, and for judges whose answers are known beforehand. In Python the function itself is given; in a
run file its address, `package.module:function`.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.types import Failure, ShownExample, Usage, Verdict

JudgeFunction: TypeAlias = Callable[[str, ShownExample], bool | float | Failure]


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionJudge:
    """Asks `function` about each example alone.

    True and False are verdicts. A number is the probability that the explanation fits, and a verdict of yes from
    `threshold` on. A `Failure` is kept as one; anything else is refused with `ConfigError`.
    """

    function: JudgeFunction | str
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if isinstance(self.function, str):
            _loaded(self.function)

    @property
    def name(self) -> str:
        if isinstance(self.function, str):
            return f"function:{self.function}"
        return f"function:{getattr(self.function, '__name__', type(self.function).__name__)}"

    async def judge(
        self, explanation: str, examples: Sequence[ShownExample], task: str
    ) -> tuple[list[Verdict | Failure], Usage]:
        function = _loaded(self.function) if isinstance(self.function, str) else self.function
        return [self._verdict(function(explanation, shown)) for shown in examples], Usage()

    def _verdict(self, answer: object) -> Verdict | Failure:
        if isinstance(answer, bool):
            return Verdict(answer)
        if isinstance(answer, int | float) and 0 <= answer <= 1:
            return Verdict(answer >= self.threshold, float(answer))
        if isinstance(answer, Failure):
            return answer
        raise ConfigError(f"{self.name} returned {answer!r}; return True, False, a probability or a Failure")


def _loaded(address: str) -> JudgeFunction:
    module_name, _, name = address.partition(":")
    if not module_name or not name.isidentifier():
        raise ConfigError(f"judges.function.function={address!r}; write package.module:function")
    try:
        found = getattr(importlib.import_module(module_name), name, None)
    except ImportError as error:
        raise ConfigError(f"judges.function.function={address!r} cannot be imported: {error}") from error
    if not callable(found):
        raise ConfigError(f"judges.function.function={address!r}: {module_name} has no function {name!r}")
    return cast(JudgeFunction, found)
