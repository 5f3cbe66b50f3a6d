"""How far the scores can be trusted, for the terminal: agreement, choices among candidates, and what was lacking.

As in `table`, text that comes from a model or a run file goes through `visible` into `Text` objects.
"""

from collections.abc import Iterable, Iterator

from rich import box
from rich.table import Table
from rich.text import Text

from sae_auto_interp.report.display import number, two_lines, visible
from sae_auto_interp.report.summary.agreement import Agreement
from sae_auto_interp.report.summary.chosen import Choice
from sae_auto_interp.report.summary.evidence import EvidenceCounts


def agreement_table(rows: Iterable[Agreement]) -> Table:
    """One row per pair of judges, explainers or tests."""
    title = Text("Agreement: Cohen's kappa of verdicts on the same windows; correlation of tests over features")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("Two", no_wrap=True)
    for heading in ("Which", "Same for both"):
        table.add_column(heading, overflow="fold")
    for heading in ("Agreement", "Equal"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("n", justify="right")
    for row in rows:
        first, second, same = sides(row)
        table.add_row(
            f"{row.differs}s",
            *(Text(visible(one) + "\n" + visible(other)) for one, other in ((first, second), same)),
            two_lines(row.agreement, signed=row.differs == "test"),
            number(None) if row.equal is None else two_lines(row.equal),
            f"{row.agreement.n:,}\n{row.agreement.n_failed:,} failed",
        )
    return table


def sides(row: Agreement) -> tuple[str, str, tuple[str, str]]:
    """What differs, one and the other, and the two things that are the same for both."""
    first, second = row.first, row.second
    if row.differs == "judge":
        return first.judge, second.judge, (first.explainer, first.scorer)
    if row.differs == "explainer":
        return first.explainer, second.explainer, (first.scorer, first.judge)
    return first.scorer, second.scorer, (first.explainer, first.judge)


def choices_table(rows: Iterable[Choice]) -> Table:
    """One row per explainer that chooses, and judge."""
    title = Text("Chosen explanations: balanced accuracy where they were chosen (development) and where not (test)")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("Explainer", no_wrap=True)
    table.add_column("Judge", overflow="fold")
    for heading in ("Others", "Development", "Test", "Optimism"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("Features", justify="right")
    for row in rows:
        table.add_row(
            *(Text(visible(name)) for name in (row.variant.explainer, row.variant.judge)),
            two_lines(row.unchosen.estimate),
            two_lines(row.development.estimate),
            two_lines(row.test.estimate),
            two_lines(row.optimism, signed=True),
            f"{row.optimism.n}\n{row.optimism.n_failed} failed",
        )
    return table


def evidence_lines(counts: EvidenceCounts) -> Iterator[Text]:
    """What was skipped, what is known without a language model, and of what there was too little."""
    if counts.skipped:
        kinds = ", ".join(f"{n} because {visible(kind).replace('_', ' ')}" for kind, n in counts.skipped)
        yield Text(f"Features skipped: {kinds}")
    if counts.labels:
        labels = ", ".join(f"{n} {label.replace('_', ' ')}" for label, n in counts.labels)
        yield Text(f"Labels, of {counts.n_profiled} features: {labels}", style="dim")
    for each in counts.shortages:
        none = f", {each.n_without} of them none" if each.n_without else ""
        yield Text(
            f"Too few {visible(each.source)} examples, {visible(each.pool)}: {each.n_features} features had "
            f"{each.n_found} of {each.n_wanted}{none}"
        )
