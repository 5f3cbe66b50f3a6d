"""The check of autoencoders -> a table for the terminal, with what was allowed or is worth a word below it."""

from collections.abc import Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from sae_auto_interp.report.display import UNDEFINED, percent, significant, visible
from sae_auto_interp.types.fit import Preflight

_HEADINGS = ("FVU", "By chance", "L0", "Claimed", "Cosine", "Norm ratio", "Dead", "Dense", "Norm", "Max", "First")


def preflight_table(found: Sequence[Preflight]) -> Group:
    """One row per autoencoder: what it reads, its figures, and the verdict."""
    n_tokens = max((each.figures.n_tokens for each in found if each.figures), default=0)
    title = Text(f"Autoencoders on {n_tokens:,} text tokens")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("Reads", overflow="fold", min_width=15)
    for heading in _HEADINGS:
        table.add_column(heading, justify="right")
    table.add_column("")
    for each in found:
        table.add_row(Text(visible(_place(each))), *_cells(each), _verdict(each))
    remarks = [
        Text(visible(f"{each.module_path}: {finding.severity} [{finding.code}] {finding.message}"))
        for each in found
        for finding in each.findings
        if finding.severity != "refused"
    ]
    return Group(table, *remarks)


def _place(check: Preflight) -> str:
    return (check.reads or check.module_path) + (f" → {check.target}" if check.target else "")


def _cells(check: Preflight) -> list[str]:
    figures, claims = check.figures, check.claims
    if figures is None or claims is None:
        return [UNDEFINED] * len(_HEADINGS)
    claimed = claims.l0 if claims.l0 is not None else claims.k
    return [
        _number(figures.fvu),
        _number(check.chance_fvu),
        _number(figures.l0),
        _number(claimed),
        _number(figures.cosine),
        _number(figures.norm_ratio),
        _share(figures.dead_fraction),
        _share(figures.dense_fraction),
        _number(figures.median_norm),
        _number(figures.max_norm),
        UNDEFINED if figures.first_norm_ratio is None else f"×{significant(figures.first_norm_ratio)}",
    ]


def _verdict(check: Preflight) -> Text:
    if check.refusals:
        return Text("refused: " + ", ".join(finding.code for finding in check.refusals), style="bold red")
    allowed = [finding.code for finding in check.findings if finding.severity == "allowed"]
    return Text("allowed: " + ", ".join(allowed), style="yellow") if allowed else Text("fits", style="green")


def _number(value: float | None) -> str:
    return UNDEFINED if value is None else significant(value)


def _share(value: float | None) -> str:
    return UNDEFINED if value is None else percent(value)
