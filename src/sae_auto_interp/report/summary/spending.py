"""What a run has spent, by stage and model: for its table, its page, and `status`.

Answers from the cache cost nothing and are counted apart. Lost requests were sent and never answered whole; the price
has them at the most that they can have cost.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from sae_auto_interp.report.display import visible
from sae_auto_interp.types.spending import NOTHING_SPENT, Account, Spent


@dataclass(frozen=True, slots=True)
class SpendingRow:
    """One stage's requests to one model; `stage` and `model` are "all" in the sum of several."""

    stage: str
    model: str
    spent: Spent

    def cells(self) -> tuple[str, ...]:
        """Paid, cached and lost answers, tokens in and out, and the price; "–" where nothing has a price, "≤" before
        sums with answers that are charged at the most that they can be."""
        spent = self.spent
        most = "≤ " if spent.n_uncounted else ""
        answers = (f"{count:,}" for count in (spent.n_paid, spent.n_cached, spent.n_lost))
        tokens = (f"{most}{count:,}" for count in (spent.prompt_tokens, spent.completion_tokens))
        return (*answers, *tokens, f"{most}${spent.usd:,.4f}" if spent.usd else "–")


HEADINGS = ("Paid answers", "Cached", "Lost", "Tokens in", "Tokens out", "Price")
"""Headings of `SpendingRow.cells`."""


def spending_rows(spending: Mapping[Account, Spent]) -> tuple[SpendingRow, ...]:
    """Sums over features, in alphabetical order, and of several the sum of all."""
    sums: dict[tuple[str, str], Spent] = {}
    for account, spent in spending.items():
        key = (account.stage, account.model)
        sums[key] = sums.get(key, NOTHING_SPENT) + spent
    rows = [SpendingRow(stage, model, spent) for (stage, model), spent in sorted(sums.items())]
    total = [SpendingRow("all", "all", sum(sums.values(), NOTHING_SPENT))] if len(rows) > 1 else []
    return (*rows, *total)


def uncounted_note(rows: Iterable[SpendingRow]) -> str:
    """What "≤" means, where it stands in a row; else empty."""
    n = max((row.spent.n_uncounted for row in rows), default=0)
    answers = "1 answer came" if n == 1 else f"{n:,} answers came"
    return f"≤: {answers} without a usable count of tokens, and are charged at the most that they can be" if n else ""


def spending_table(rows: Iterable[SpendingRow]) -> Table:
    """One row per stage and model."""
    shown = list(rows)
    table = Table(
        title=Text("Language models"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
        caption=uncounted_note(shown) or None, caption_justify="left",
    )  # fmt: skip
    for heading in ("Stage", "Model"):
        table.add_column(heading, overflow="fold")
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for row in shown:
        table.add_row(Text(visible(row.stage)), Text(visible(row.model)), *row.cells())
    return table
