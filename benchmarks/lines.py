"""Measurements as JSON lines, one object each, and what is computed from several of them."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

ALL_LAYERS = "ours, all layers"
"""Who computes what ours leaves out, in the benchmark of the early stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One measurement in one process, or the reason why there is none."""

    benchmark: str
    who: str
    """ours, bare, peer, or a variant of ours."""
    settings: dict[str, Any]
    repetition: int
    machine: dict[str, Any]
    result: dict[str, Any]
    """Empty when missing."""
    missing: str | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    def has(self, wanted: dict[str, Any]) -> bool:
        """Whether its settings have all these values."""
        return all(self.settings.get(name) == value for name, value in wanted.items())


def read_lines(paths: Iterable[Path]) -> list[Line]:
    """All measurements in these files, in order; files that are not there hold none."""
    texts = [path.read_text(encoding="utf-8") for path in paths if path.is_file()]
    return [Line(**json.loads(line)) for text in texts for line in text.splitlines() if line.strip()]


def append_line(path: Path, line: Line) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", newline="\n") as stream:
        stream.write(line.to_json() + "\n")


def chosen(lines: Sequence[Line], benchmark: str, who: str, **settings: Any) -> list[Line]:
    """Measurements of one thing, missing ones left out."""
    return [
        line
        for line in lines
        if (line.benchmark, line.who) == (benchmark, who) and line.missing is None and line.has(settings)
    ]


def median_of(lines: Sequence[Line], name: str) -> float | None:
    """Median over the repetitions of one figure; None when it was not measured."""
    values = [float(line.result[name]) for line in lines if line.result.get(name) is not None]
    return median(values) if values else None


def ratio(above: float | None, below: float | None) -> float | None:
    """None when one of them was not measured."""
    return None if above is None or not below else above / below
