"""The hidden-explanation probe: a judge that is asked everything but not told the explanation.

What it scores above chance did not come from the explanation: the questions leak. Any judge can be asked this way, so
any run can have the probe beside its scores: `{name: detection, judge: hidden}`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sae_auto_interp.protocols import Judge
from sae_auto_interp.types import Failure, ShownExample, Usage, Verdict

HIDDEN = "unknown"
"""What stands in the explanation's place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenJudge:
    """Asks `of` with a text that says nothing."""

    reads_explanation: ClassVar[bool] = False

    of: Judge

    @property
    def name(self) -> str:
        return f"hidden:{self.of.name}"

    async def judge(
        self, explanation: str, examples: Sequence[ShownExample], task: str
    ) -> tuple[list[Verdict | Failure], Usage]:
        """The wrapped judge's verdicts about the explanation "unknown"."""
        return await self.of.judge(HIDDEN, examples, task)
