"""Two runs side by side: the same features, paired, test by test.

What is paired: every (explainer, test, judge) that both runs have; and where their primary explainers or judges differ,
the two primary ones under each test that both put them to. p-values are adjusted over all rows (Holm).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from sae_auto_interp.errors import InputError
from sae_auto_interp.metrics import PairedComparison, compare_paired, holm
from sae_auto_interp.metrics.bootstrap import DEFAULT_RESAMPLES
from sae_auto_interp.metrics.intervals import DEFAULT_LEVEL
from sae_auto_interp.report.display import number, percent, two_lines, visible
from sae_auto_interp.report.summary import report_generator, run_seed
from sae_auto_interp.report.summary.variants import (
    Variant,
    is_control,
    primary_variant,
    reading_order,
    scores_by_variant,
)
from sae_auto_interp.report.tables.compared_metrics import IN_TEXT_METRICS, estimate_of, is_for, kinds_of
from sae_auto_interp.results import RESULTS_FILE, ResultStore
from sae_auto_interp.types import Estimate, FeatureId

EstimatesByVariant = Mapping[Variant, Mapping[FeatureId, Estimate]]

SAME_FEATURES = ("model", "autoencoders")
"""Facts about a run by which feature 7 of a module is the same feature in another."""


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
    info: Mapping[str, str]
    """Facts about the run."""
    primary: Variant | None
    estimates: EstimatesByVariant


def compare_runs(
    first: Path,
    second: Path,
    metric: str = "balanced_accuracy",
    level: float = DEFAULT_LEVEL,
    n_resamples: int = DEFAULT_RESAMPLES,
    *,
    across_models: bool = False,
) -> RunComparison:
    """Compare the run directories `first` and `second`; differences are second - first.

    Features are paired by module and index, so runs of other models or autoencoders are refused unless `across_models`.
    Raises UnknownNameError for another metric, and InputError where the runs have nothing in common.
    """
    a, b = _read(first, metric, level), _read(second, metric, level)
    if not across_models:
        _check_same_features(first, a, second, b)
    pairs = _pairs(a, b)
    _check_common(first, a, second, b, pairs, metric)
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
    kinds = kinds_of(metric)
    with ResultStore.open(run_dir / RESULTS_FILE, read_only=True) as store:
        explainers = {name: explanation.explainer for name, explanation in store.explanations()}
        scores, info = scores_by_variant(store.scores(), explainers, kinds), store.info()
        densities = _densities(store) if metric in IN_TEXT_METRICS else {}
    own = {v: of for v, of in scores.items() if not is_control(v.explainer) and is_for(metric, v.scorer)}
    estimates = {
        v: {f: estimate_of(metric, s, densities.get(f), level) for f, s in of.items()} for v, of in own.items()
    }
    primary = primary_variant(sorted(own, key=reading_order), list(explainers.values()))
    return _Run(run_seed(info), info, primary, estimates)


def _densities(store: ResultStore) -> dict[FeatureId, float]:
    stats = ((record.feature, record.stats) for record in store.records())
    return {feature: s.n_active_windows / s.n_windows for feature, s in stats if s.n_windows > 0}


def _check_same_features(first: Path, a: _Run, second: Path, b: _Run) -> None:
    """By what both runs say; older ones may say nothing."""
    for fact in SAME_FEATURES:
        one, other = a.info.get(fact), b.info.get(fact)
        if one is not None and other is not None and one != other:
            raise InputError(
                f"{first} and {second} differ in their {fact} ({one} against {other}), and features are paired by "
                "index; compare runs of the same, or give --across-models if this pairing is meant"
            )


def _check_common(
    first: Path, a: _Run, second: Path, b: _Run, pairs: list[tuple[Variant, Variant]], metric: str
) -> None:
    """Something to compare: a test that both were put to, and features that both have under it."""
    if not pairs:
        raise InputError(
            f"{first} and {second} have no {metric} to compare: {_listed(a.estimates)} against {_listed(b.estimates)}; "
            f"score both with the same test"
        )
    if not any(a.estimates[one].keys() & b.estimates[other].keys() for one, other in pairs):
        raise InputError(
            f"{first} and {second} share no feature; run both with the same seed, or with the same features.indices"
        )


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
        two_lines(found.first),
        two_lines(found.second),
        two_lines(found.difference, signed=True),
        two_lines(found.effect_size, signed=True),
        _p(found.significance.p_value),
        _p(row.adjusted_p),
        str(found.difference.n),
        f"{found.first.n_failed} + {found.second.n_failed}",
    ]
    return [Text(text) for text in texts]


def _both(first: str, second: str) -> str:
    return visible(first) if first == second else f"A {visible(first)}\nB {visible(second)}"


def _p(value: float | None) -> str:
    if value is None:
        return number(None)
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def _only(found: PairedComparison) -> str:
    """Which features were left out."""
    left = [(found.n_only_first, "A"), (found.n_only_second, "B")]
    return ", ".join(f"{n} features have a value in {name} only" for n, name in left if n)
