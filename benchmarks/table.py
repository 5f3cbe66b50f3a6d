"""The tables of docs/benchmarks.md, made from the JSON lines of docs/benchmarks/.

    python -m benchmarks.table

Between `<!-- table: NAME -->` and `<!-- end -->` the page is this program's; the rest is written by people.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from benchmarks.claims import CLAIMS, Claim
from benchmarks.columns import TABLES, Column, Table
from benchmarks.lines import Line, read_lines
from benchmarks.options import LINES

PAGE = LINES.parent / "benchmarks.md"
NOT_MEASURED = "not measured"
NOTHING = "–"
MARKED = re.compile(r"(?<=<!-- table: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


def main() -> int:
    lines = read_lines(sorted(LINES.glob("*.jsonl")))
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), lines), encoding="utf-8", newline="\n")
    print(f"{PAGE.name}: {len(lines)} measurements")
    return 0


def filled(page: str, lines: Sequence[Line]) -> str:
    """The page with its marked parts made anew."""
    return MARKED.sub(lambda found: f"{found[1]}{found[2]}{section(found[1], lines)}\n", page)


def section(name: str, lines: Sequence[Line]) -> str:
    """One marked part; raises `KeyError` for a name that is neither `claims`, `machines` nor a benchmark's."""
    if name == "claims":
        return claims_table(CLAIMS, lines)
    found = lines if name == "machines" else [line for line in lines if line.benchmark == name]
    if not found:
        return f"Not measured yet: `python -m benchmarks.{'run_all' if name == 'machines' else name}`."
    return machines_table(found) if name == "machines" else benchmark_table(TABLES[name], found)


def claims_table(claims: Sequence[Claim], lines: Sequence[Line]) -> str:
    """Every claim, its target and the figure."""
    return markdown(["figure", "target", "measured", ""], [_claim_row(claim, lines) for claim in claims])


def _claim_row(claim: Claim, lines: Sequence[Line]) -> list[str]:
    value = claim.value(lines)
    sign = "≤" if claim.bound == "at most" else "≥"
    target = f"{sign} {claim.target:g} {claim.unit}"
    if value is None:
        return [claim.text, target, NOT_MEASURED, ""]
    return [claim.text, target, f"{value:.3g} {claim.unit}", "met" if claim.holds(value) else "**missed**"]


def machines_table(lines: Sequence[Line]) -> str:
    """Which versions on which machine; several rows where ours and the peer have different ones."""
    names = list(dict.fromkeys(name for line in lines for name in line.machine))
    measured = [line for line in lines if line.missing is None]
    rows = dict.fromkeys(
        (line.who if line.who == "peer" else "ours, bare", *(str(line.machine.get(name, NOTHING)) for name in names))
        for line in measured
    )
    return markdown(["", *names], [list(row) for row in rows])


def benchmark_table(table: Table, lines: Sequence[Line]) -> str:
    """One row per case, medians over its repetitions; below it what is missing, and why."""
    cases = _distinct([_case(table, line) for line in lines])
    header = [*table.cases, *(column.title for column in table.columns), "repetitions"]
    rows = [_row(table, case, [line for line in lines if _case(table, line) == case]) for case in cases]
    missing = _distinct([_reason(table, line) for line in lines if line.missing is not None])
    if not missing:
        return markdown(header, rows)
    return "\n\n".join([markdown(header, rows), "Missing:", "\n".join(f"- {reason}" for reason in missing)])


def _case(table: Table, line: Line) -> tuple[str, ...]:
    return tuple(_shown(show(line.settings)) for show in table.cases.values())


def _row(table: Table, case: tuple[str, ...], lines: Sequence[Line]) -> list[str]:
    measured = [line for line in lines if line.missing is None]
    return [*case, *(_cell(column, measured) for column in table.columns), _repetitions(measured)]


def _repetitions(lines: Sequence[Line]) -> str:
    """How many there are of each; one number when it is the same for all."""
    counts = Counter(line.who for line in lines)
    if len(set(counts.values())) <= 1:
        return str(max(counts.values(), default=0))
    return ", ".join(f"{who} {n}" for who, n in counts.items())


def _cell(column: Column, lines: Sequence[Line]) -> str:
    value = column.value(lines)
    return NOTHING if value is None else format(value, column.format)


def _reason(table: Table, line: Line) -> str:
    case = ", ".join(f"{name} {value}" for name, value in zip(table.cases, _case(table, line), strict=True))
    return f"{line.who}, {case}: {line.missing}"


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000 else str(value)


def _distinct(values: Sequence[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


if __name__ == "__main__":
    raise SystemExit(main())
