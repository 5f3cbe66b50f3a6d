"""The progress of a run without a terminal."""

from collections.abc import Sequence


class Counter:
    """Counts what was started and what advanced, and says nothing."""

    def __init__(self) -> None:
        self.started: list[tuple[int, int]] = []
        self.n = 0

    def start(self, stage: str, total: int, done: int, unit: str) -> None:
        self.started.append((total, done))

    def advance_stage(self, stage: str, failures: Sequence[str] = ()) -> None:
        self.n += 1

    def advance(self, n: int = 1) -> None: ...

    def drop(self, stage: str, n: int) -> None: ...

    def finish_stage(self, stage: str) -> None: ...

    def note(self, text: str) -> None: ...

    def finish(self) -> None: ...
