"""`RunSummary` -> tables for the terminal.

Text that comes from a model or a corpus is put into `Text` objects, which know no markup, after `visible` has made
control characters harmless. The same summary gives the same text.
"""

from collections.abc import Iterable

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sae_auto_interp.report.display import interval, number, percent, shorten, visible
from sae_auto_interp.report.spending import spending_table
from sae_auto_interp.report.values import (
    BaselineSkill,
    FeatureScore,
    FeatureSummary,
    FeatureTests,
    KindCounts,
    RunSummary,
)
from sae_auto_interp.types import Estimate

BASELINES = ("shuffled", "lexical", "hidden", "constant")
"""In the order of their columns."""
EXPLANATION_CHARACTERS = 120
"""A longer explanation is cut in the table; the page has it whole."""


def run_table(summary: RunSummary, max_features: int | None = 25) -> Group:
    """The features with their scores, best first, then the run's totals beside their shuffled controls.

    `max_features` None shows all.
    """
    parts: list[RenderableType] = [feature_table(summary, max_features)]
    n_hidden = len(summary.features) - len(summary.features[:max_features])
    if n_hidden:
        parts.append(Text(f"... and {n_hidden} more; the report has all {len(summary.features)}.", style="dim"))
    parts += [Text(), totals_table(summary)]
    if summary.others:
        parts += [Text(), other_table(summary)]
    if summary.variants:
        parts += [Text(), baselines_table(summary)]
    parts += _notes(summary)
    if summary.spending:
        parts += [Text(), spending_table(summary.spending)]
    return Group(*parts)


def feature_table(summary: RunSummary, max_features: int | None = None) -> Table:
    """One row per feature: explanation, balanced accuracy per scorer, trials judged and failed."""
    title = _title(summary)
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("#", justify="right", style="dim")
    table.add_column("Feature", overflow="fold", min_width=15)
    table.add_column("Explanation", overflow="fold", ratio=1)
    for scorer in summary.primary_scorers:
        table.add_column(Text(visible(scorer).capitalize()), justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    for rank, feature in enumerate(summary.features[:max_features], start=1):
        table.add_row(str(rank), *_feature_cells(summary, feature))
    return table


def totals_table(summary: RunSummary) -> Table:
    """One row per explainer, scorer and judge: mean over features, the control's, and the paired difference."""
    title = Text("Mean balanced accuracy over features")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("Explainer", "Test", "Judge"):
        table.add_column(heading, no_wrap=True)
    for heading in ("Own explanation", "Shuffled", "Difference"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("Features", "Failed trials"):
        table.add_column(heading, justify="right")
    for row in summary.variants:
        table.add_row(
            *(Text(visible(name)) for name in (row.variant.explainer, row.variant.scorer, row.variant.judge)),
            _two_lines(row.balanced_accuracy.estimate),
            _two_lines(row.shuffled.estimate),
            _two_lines(row.difference, signed=True),
            _features_used(row.balanced_accuracy.estimate.n, row.n_features),
            f"{row.balanced_accuracy.estimate.n_failed} of {row.n_trials}",
        )
    return table


def other_table(summary: RunSummary) -> Table:
    """One row per ranking, forced choice or simulation: as `totals_table`, with its metric and its chance level."""
    title = Text("Other scores, mean over features")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("Explainer", "Test", "Judge", "Metric"):
        table.add_column(heading, no_wrap=heading != "Judge", overflow="fold")
    for heading in ("Own explanation", "Shuffled", "Difference"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("Chance", "Features", "Failed trials"):
        table.add_column(heading, justify="right")
    for row in summary.others:
        table.add_row(
            *(Text(visible(name)) for name in (row.variant.explainer, row.variant.scorer, row.variant.judge)),
            row.metric,
            _two_lines(row.own.estimate),
            number(None) if row.shuffled is None else _two_lines(row.shuffled.estimate),
            number(None) if row.difference is None else _two_lines(row.difference, signed=True),
            number(row.chance),
            _features_used(row.own.estimate.n, row.n_features),
            f"{row.own.estimate.n_failed} of {row.n_trials}",
        )
    return table


def baselines_table(summary: RunSummary) -> Table:
    """One row per explainer, scorer and judge: what each baseline has, and below it the skill over it."""
    title = Text("Baselines: their balanced accuracy, and the skill of the explanations over them")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("Explainer", "Test", "Judge"):
        table.add_column(heading, no_wrap=heading != "Judge", overflow="fold")
    rows = [row for row in summary.variants if row.baselines]
    names = [name for name in BASELINES if any(each.name == name for row in rows for each in row.baselines)]
    for name in (*names, "Above chance", "Above shuffled"):
        table.add_column(name.capitalize(), justify="right", no_wrap=True)
    for row in rows:
        found = {each.name: each for each in row.baselines}
        table.add_row(
            *(Text(visible(name)) for name in (row.variant.explainer, row.variant.scorer, row.variant.judge)),
            *(_baseline_text(found.get(name)) for name in names),
            _passed(row.above_chance),
            _passed(row.above_shuffled),
        )
    return table


def _baseline_text(baseline: BaselineSkill | None) -> str:
    if baseline is None:
        return number(None)
    return f"{number(baseline.balanced_accuracy.value)}\nskill {_two_lines(baseline.skill)}"


def _passed(tests: FeatureTests | None) -> str:
    """How many features pass."""
    return number(None) if tests is None else f"{tests.n_passed} of {tests.n_tested}"


def _title(summary: RunSummary) -> Text:
    if summary.primary is None:
        return Text("Nothing has been explained yet")
    names = f"explained by {visible(summary.primary.explainer)}"
    judged = f", judged by {visible(summary.primary.judge)}" if summary.primary.judge else ""
    return Text(f"Balanced accuracy with {percent(summary.level)} interval; {names}{judged}")


def _feature_cells(summary: RunSummary, feature: FeatureSummary) -> Iterable[Text]:
    scores = summary.primary_scores(feature)
    present = [score.balanced_accuracy for score in scores if score is not None]
    yield Text(f"{visible(feature.feature.module_path)}\n:{feature.feature.index}")
    yield _explanation(summary, feature)
    yield from (Text(_score_text(score)) for score in scores)
    yield Text(f"{sum(e.n for e in present)}\n{sum(e.n_failed for e in present)} failed")


def _explanation(summary: RunSummary, feature: FeatureSummary) -> Text:
    """The primary explainer's; where it gave none, that is what the cell says."""
    name = summary.primary.explainer if summary.primary else ""
    own = next((e for e in feature.explanations if e.explainer == name), None)
    if own is not None:
        return Text(shorten(visible(own.text), EXPLANATION_CHARACTERS))
    kinds = ", ".join(sorted({visible(failure.kind) for failure in feature.failures}))
    return Text(f"failed: {kinds}" if kinds else "not explained", style="italic red" if kinds else "dim")


def _score_text(score: FeatureScore | None) -> str:
    return number(None) if score is None else _two_lines(score.balanced_accuracy)


def _two_lines(estimate: Estimate, *, signed: bool = False) -> str:
    """The value above its interval: half as wide, so that a table fits 80 columns."""
    return f"{number(estimate.value, signed=signed)}\n{interval(estimate, signed=signed)}".rstrip()


def _features_used(n_used: int, n_scored: int) -> str:
    return str(n_used) if n_used == n_scored else f"{n_used} of {n_scored}"


def _notes(summary: RunSummary) -> Iterable[Text]:
    yield Text(
        "Chance is 0.5 for balanced accuracy. Shuffled: the same test with another feature's explanation.", style="dim"
    )
    yield Text(
        "Hidden: the same judge, not told the explanation, on some features. Above chance, above shuffled: features "
        "that pass an exact test with 5 % false discoveries (Benjamini-Hochberg).",
        style="dim",
    )
    for explainer in summary.explainers:
        if explainer.failed:
            yield Text(f"Explanations that failed, {visible(explainer.name)}: {kinds_text(explainer.failed)}")
    if summary.failures:
        kinds = (f"{group.count} {visible(group.kind)} ({visible(group.stage)})" for group in summary.failures)
        yield Text(f"All failures, controls included: {', '.join(kinds)}")


def kinds_text(counts: KindCounts) -> str:
    """`3 unparsable, 1 timeout`."""
    return ", ".join(f"{count} {visible(kind)}" for kind, count in counts)
