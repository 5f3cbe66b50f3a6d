"""What the stages of a run say while several of them are on at once."""

from collections.abc import Sequence
from typing import Protocol

from sae_auto_interp.protocols import Progress


class RunProgress(Progress, Protocol):
    """`Progress` for stages that overlap: each is named."""

    def advance_stage(self, stage: str, failures: Sequence[str] = ()) -> None:
        """One unit of a stage is done, or was tried and failed: with the kinds of its failures."""
        ...

    def drop(self, stage: str, n: int) -> None:
        """So many units of a stage will not come, because what they need has failed."""
        ...

    def finish_stage(self, stage: str) -> None: ...
