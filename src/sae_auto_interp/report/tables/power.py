"""The planner's answers as a table for a terminal."""

from collections.abc import Sequence
from itertools import product

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from sae_auto_interp.metrics import features_needed, half_width, smallest_difference
from sae_auto_interp.metrics.power import TYPICAL_SD
from sae_auto_interp.report.display import percent

CORRELATIONS = (0.0, 0.5, 0.7, 0.9)
DIFFERENCES = (0.01, 0.02, 0.05)
SIZES = (50, 100, 300, 500, 1000)


def power_tables(
    differences: Sequence[float] | None = None,
    sizes: Sequence[int] | None = None,
    sd: float | None = None,
    power: float = 0.8,
    alpha: float = 0.05,
) -> Group:
    """Features needed per difference, and what a number of features can tell; None is a typical choice."""
    sd = TYPICAL_SD if sd is None else sd
    needed = _table(f"Features needed to find a difference with probability {percent(power)}", "Difference")
    known = _table("What a number of features tells: interval of a mean, and smallest difference found", "Features")
    known.add_column(f"{percent(1 - alpha)} interval", justify="right")
    for table, rho in product((needed, known), CORRELATIONS):
        table.add_column(f"correlation {rho:g}", justify="right")
    for difference in differences or DIFFERENCES:
        found = (features_needed(difference, sd, rho, power, alpha) for rho in CORRELATIONS)
        needed.add_row(f"{difference:g}", *(f"{n:,}" for n in found))
    for n in sizes or SIZES:
        smallest = (smallest_difference(n, sd, rho, power, alpha) for rho in CORRELATIONS)
        known.add_row(f"{n:,}", f"±{half_width(n, sd, 1 - alpha):.3f}", *(f"{value:.3f}" for value in smallest))
    note = (
        f"Scores vary between features with standard deviation {sd:.3f}; two-sided level {alpha:g}. Correlation: of "
        f"the two runs' scores over the same features; 0 is also what two runs on different features need, each."
    )
    return Group(needed, Text(), known, Text(note, style="dim"))


def _table(title: str, first: str) -> Table:
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, justify="right")
    return table
