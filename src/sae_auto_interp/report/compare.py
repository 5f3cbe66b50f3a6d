"""Two runs side by side: the same features, paired, test by test.

What is paired: every (explainer, test, judge) that both runs have; and where their primary explainers or judges differ,
the two primary ones under each test that both put them to. p-values are adjusted over all rows (Holm).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from sae_auto_interp.errors import InputError, UnknownNameError
from sae_auto_interp.metrics import (
    PairedComparison,
    auroc,
    balanced_accuracy,
    compare_paired,
    f1,
    holm,
    mcc,
    precision,
    simulation_metrics,
    tnr,
    tpr,
)
from sae_auto_interp.metrics.bootstrap import DEFAULT_RESAMPLES
from sae_auto_interp.metrics.intervals import DEFAULT_LEVEL
from sae_auto_interp.report.display import interval, number, percent, visible
from sae_auto_interp.report.summary import (
    is_control,
    primary_variant,
    reading_order,
    report_generator,
    run_seed,
    scores_by_variant,
)
from sae_auto_interp.report.values import Variant
from sae_auto_interp.results import RESULTS_FILE, ResultStore
from sae_auto_interp.types import Estimate, FeatureId, Score, ScoreKind

EstimatesByVariant = Mapping[Variant, Mapping[FeatureId, Estimate]]

CLASSIFICATION_METRICS: dict[str, Callable[[Score, float], Estimate]] = {
    "balanced_accuracy": balanced_accuracy,
    "tpr": tpr,
    "tnr": tnr,
    "precision": precision,
    "f1": f1,
    "mcc": mcc,
    "auroc": auroc,
}
SIMULATION_METRICS = ("ev_correlation", "rsquared", "absolute_dev_explained")


@dataclass(frozen=True, slots=True)
class ComparedVariant:
    """One row: a variant of the first run against one of the second."""

    first: Variant
    second: Variant
    comparison: PairedComparison
    adjusted_p: float | None
    """Holm's, over the rows; None where there is no p-value."""


@dataclass(frozen=True, slots=True)
class RunComparison:
    metric: str
    level: float
    rows: tuple[ComparedVariant, ...]


@dataclass(frozen=True, slots=True)
class _Run:
    seed: int
    primary: Variant | None
    estimates: EstimatesByVariant


def compare_runs(
    first: Path,
    second: Path,
    metric: str = "balanced_accuracy",
    level: float = DEFAULT_LEVEL,
    n_resamples: int = DEFAULT_RESAMPLES,
) -> RunComparison:
    """Compare the run directories `first` and `second`; differences are second - first.

    Raises UnknownNameError for another metric, and InputError where the runs have nothing in common.
    """
    a, b = _read(first, metric, level), _read(second, metric, level)
    pairs = _pairs(a, b)
    if not pairs:
        raise InputError(
            f"{first} and {second} have no {metric} to compare: {_listed(a.estimates)} against {_listed(b.estimates)}; "
            f"score both with the same test"
        )
    found = [
        compare_paired(
            a.estimates[one], b.estimates[other], report_generator(a.seed, f"compare {metric}", one), level, n_resamples
        )
        for one, other in pairs
    ]
    adjusted = _adjusted([comparison.significance.p_value for comparison in found])
    rows = (ComparedVariant(*pair, comparison, p) for pair, comparison, p in zip(pairs, found, adjusted, strict=True))
    return RunComparison(metric, level, tuple(rows))


def _read(run_dir: Path, metric: str, level: float) -> _Run:
    kind = _kind_of(metric)
    with ResultStore.open(run_dir / RESULTS_FILE, read_only=True) as store:
        explainers = {name: explanation.explainer for name, explanation in store.explanations()}
        scores, seed = scores_by_variant(store.scores(), explainers, kind), run_seed(store.info())
    own = {variant: of for variant, of in scores.items() if not is_control(variant.explainer)}
    estimates = {v: {f: _estimate(s, metric, level) for f, s in of.items()} for v, of in own.items()}
    return _Run(seed, primary_variant(sorted(own, key=reading_order), list(explainers.values())), estimates)


def _kind_of(metric: str) -> ScoreKind:
    if metric in CLASSIFICATION_METRICS:
        return "classification"
    if metric in SIMULATION_METRICS:
        return "simulation"
    raise UnknownNameError("metric", metric, [*CLASSIFICATION_METRICS, *SIMULATION_METRICS])


def _estimate(score: Score, metric: str, level: float) -> Estimate:
    """Only its value and failures are used: the feature's own interval needs no many resamples."""
    if metric in CLASSIFICATION_METRICS:
        return CLASSIFICATION_METRICS[metric](score, level)
    return getattr(simulation_metrics(score, np.random.default_rng(0), level, n_resamples=2), metric)


def _pairs(a: _Run, b: _Run) -> list[tuple[Variant, Variant]]:
    """Equal variants in reading order, then the primary ones under each test where their names differ."""
    pairs = [(v, v) for v in sorted(a.estimates, key=reading_order) if v in b.estimates]
    if (
        a.primary is None
        or b.primary is None
        or (a.primary.explainer, a.primary.judge)
        == (
            b.primary.explainer,
            b.primary.judge,
        )
    ):
        return pairs
    for scorer in sorted({v.scorer for v in a.estimates}):
        one = Variant(a.primary.explainer, scorer, a.primary.judge)
        other = Variant(b.primary.explainer, scorer, b.primary.judge)
        if one in a.estimates and other in b.estimates:
            pairs.append((one, other))
    return pairs


def _adjusted(p_values: list[float | None]) -> list[float | None]:
    known = np.array([p for p in p_values if p is not None], dtype=np.float64)
    adjusted = iter(holm(known).tolist())
    return [None if p is None else next(adjusted) for p in p_values]


def _listed(estimates: EstimatesByVariant) -> str:
    names = sorted(f"{v.explainer}/{v.scorer}/{v.judge}" for v in estimates)
    return ", ".join(names) or "nothing scored"


def comparison_table(found: RunComparison, first: str, second: str) -> Group:
    """The comparison for a terminal; `first` and `second` are what the runs are called."""
    title = Text(f"Mean {found.metric} over the features of both, with {percent(found.level)} intervals")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("Explainer", "Test", "Judge"):
        table.add_column(heading, overflow="fold")
    for heading in ("A", "B", "B - A", "Effect size", "p", "p adj."):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("Features", "Failed trials"):
        table.add_column(heading, justify="right")
    for row in found.rows:
        table.add_row(*_cells(row))
    notes = [
        f"A: {visible(first)}",
        f"B: {visible(second)}",
        "Effect size: rank-biserial correlation of the differences, -1 to 1. p: Wilcoxon signed-rank, two-sided; "
        "adjusted by Holm's method over the rows.",
        *(f"{visible(row.second.scorer)}: {_only(row.comparison)}" for row in found.rows if _only(row.comparison)),
    ]
    return Group(table, *(Text(note, style="dim") for note in notes))


def _cells(row: ComparedVariant) -> list[Text]:
    found = row.comparison
    texts = [
        *(_both(getattr(row.first, name), getattr(row.second, name)) for name in ("explainer", "scorer", "judge")),
        _two_lines(found.first),
        _two_lines(found.second),
        _two_lines(found.difference, signed=True),
        _two_lines(found.effect_size, signed=True),
        _p(found.significance.p_value),
        _p(row.adjusted_p),
        str(found.difference.n),
        f"{found.first.n_failed} + {found.second.n_failed}",
    ]
    return [Text(text) for text in texts]


def _both(first: str, second: str) -> str:
    return visible(first) if first == second else f"A {visible(first)}\nB {visible(second)}"


def _two_lines(estimate: Estimate, *, signed: bool = False) -> str:
    return f"{number(estimate.value, signed=signed)}\n{interval(estimate, signed=signed)}".rstrip()


def _p(value: float | None) -> str:
    if value is None:
        return number(None)
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def _only(found: PairedComparison) -> str:
    """Which features were left out."""
    left = [(found.n_only_first, "A"), (found.n_only_second, "B")]
    return ", ".join(f"{n} features have a value in {name} only" for n, name in left if n)
