"""Loss estimates of autoencoders -> a table for the terminal, and JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from sae_auto_interp.metrics.losses import LossEstimates
from sae_auto_interp.report.display import percent, visible, with_interval
from sae_auto_interp.types import Estimate


def losses_table(estimates: Mapping[str, LossEstimates]) -> Group:
    """One row per autoencoder; below it why a number or its interval is missing, where one is."""
    over = next((f"; {percent(e.clean.level)} intervals over {e.clean.n} documents" for e in estimates.values()), "")
    title = Text(f"Next-token loss in nats, and the fraction recovered{over}")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Module", overflow="fold", min_width=15)
    for heading in ("Clean", "Reconstruction", "Mean", "Zero", "Recovered (mean)", "Recovered (zero)"):
        table.add_column(heading, justify="right")
    for path, e in estimates.items():
        losses = (e.clean, e.reconstruction, e.mean, e.zero)
        recovered = (e.recovered_from_mean, e.recovered_from_zero)
        table.add_row(Text(visible(path)), *(_three_decimals(x) for x in losses), *map(with_interval, recovered))
    return Group(table, *(Text(f"{visible(path)}: {reason}") for path, reason in _reasons(estimates)))


def losses_json(estimates: Mapping[str, LossEstimates]) -> str:
    """{module path: {name: estimate}}, every estimate whole."""
    return json.dumps({path: asdict(e) for path, e in estimates.items()}, indent=2)


def _three_decimals(estimate: Estimate) -> str:
    return "–" if estimate.value is None else f"{estimate.value:.3f}"


def _reasons(estimates: Mapping[str, LossEstimates]) -> list[tuple[str, str]]:
    """(module path, reason), each once."""
    pairs = [
        (path, estimate.reason)
        for path, e in estimates.items()
        for estimate in (e.clean, e.recovered_from_mean, e.recovered_from_zero)
        if estimate.reason is not None
    ]
    return list(dict.fromkeys(pairs))
