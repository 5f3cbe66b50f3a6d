"""`RunSummary` -> tables for the terminal.

Text that comes from a model or a corpus is put into `Text` objects, which know no markup, after `visible` has made
control characters harmless. The same summary gives the same text.
"""

from collections.abc import Iterable

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sae_auto_interp.report.display import number, percent, shorten, two_lines, visible
from sae_auto_interp.report.summary.spending import spending_table
from sae_auto_interp.report.summary.values import (
    BaselineSkill,
    FeatureScore,
    FeatureSummary,
    FeatureTests,
    KindCounts,
    RunSummary,
)
from sae_auto_interp.report.summary.variants import Variant
from sae_auto_interp.report.tables.checks import agreement_table, choices_table, evidence_lines
from sae_auto_interp.results.failure_kinds import FailureKind
from sae_auto_interp.types import Estimate

BASELINES = ("shuffled", "nearest", "lexical", "hidden")
"""In the order of their columns. The constant judge's is 0.5 everywhere, and on the page."""
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
    if summary.choices:
        parts += [Text(), choices_table(summary.choices)]
    agreements = [row for row in summary.agreements if row.differs != "test" or _is_primary(row.first, summary)]
    if agreements:
        parts += [Text(), agreement_table(agreements)]
    parts += [*evidence_lines(summary.evidence), *_notes(summary)]
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
    table = _table("Mean balanced accuracy over features", ("Own", "Shuffled", "Difference"))
    for heading in ("Features", "Failed trials"):
        table.add_column(heading, justify="right")
    for row in summary.variants:
        table.add_row(
            *_who(row.variant, ""),
            two_lines(row.balanced_accuracy.estimate),
            two_lines(row.shuffled.estimate),
            two_lines(row.difference, signed=True),
            _features_used(row.balanced_accuracy.estimate.n, row.n_features),
            _failed(row.balanced_accuracy.estimate, row.n_trials, row.further.if_all_wrong, row.further.if_all_right),
        )
    return table


def other_table(summary: RunSummary) -> Table:
    """One row per ranking, forced choice or simulation: as `totals_table`, with its metric and its chance level."""
    table = _table("Other scores, mean over features", ("Own", "Shuffled", "Difference"))
    for heading in ("Features", "Failed trials"):
        table.add_column(heading, justify="right")
    for row in summary.others:
        metric = row.metric if row.chance is None else f"{row.metric}, chance {number(row.chance)}"
        table.add_row(
            *_who(row.variant, metric),
            two_lines(row.own.estimate),
            number(None) if row.shuffled is None else two_lines(row.shuffled.estimate),
            number(None) if row.difference is None else two_lines(row.difference, signed=True),
            _features_used(row.own.estimate.n, row.n_features),
            _failed(row.own.estimate, row.n_trials, row.if_all_wrong, row.if_all_right),
        )
    return table


def baselines_table(summary: RunSummary) -> Table:
    """One row per explainer, scorer and judge: what each baseline has, on how many features, and the skill over it."""
    rows = [row for row in summary.variants if row.baselines]
    names = [name for name in BASELINES if any(each.name == name for row in rows for each in row.baselines)]
    title = "Baselines: their balanced accuracy, and below it the skill of the explanations over them"
    table = _table(title, (*(name.capitalize() for name in names), "Features above"))
    for row in rows:
        found = {each.name: each for each in row.baselines}
        table.add_row(
            *_who(row.variant, ""),
            *(_baseline_text(found.get(name)) for name in names),
            f"chance {_passed(row.above_chance)}\nshuffled {_passed(row.above_shuffled)}",
        )
    return table


def _table(title: str, numbers: Iterable[str]) -> Table:
    """With explainer and judge in its first column, the test in its second, then columns of numbers.

    Names fold, numbers never do: so it fits 100 columns.
    """
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("Explainer, judge", overflow="fold")
    table.add_column("Test", overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _who(variant: Variant, metric: str) -> tuple[Text, Text]:
    who = Text(f"{visible(variant.explainer)}\n").append(visible(variant.judge), style="dim")
    return who, Text(f"{visible(variant.scorer)}\n").append(metric, style="dim")


def _baseline_text(baseline: BaselineSkill | None) -> str:
    if baseline is None:
        return number(None)
    value, n = number(baseline.balanced_accuracy.value), baseline.skill.n
    return f"{value} n={n}\n{two_lines(baseline.skill, signed=True)}"


def _passed(tests: FeatureTests | None) -> str:
    """How many features pass."""
    return number(None) if tests is None else f"{tests.n_passed} of {tests.n_tested}"


def _is_primary(variant: Variant, summary: RunSummary) -> bool:
    first = summary.primary
    return first is not None and (variant.explainer, variant.judge) == (first.explainer, first.judge)


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
    return number(None) if score is None else two_lines(score.balanced_accuracy)


def _failed(mean: Estimate, n_trials: int, if_all_wrong: Estimate, if_all_right: Estimate) -> str:
    """How many trials failed, and below it the mean had all of them been wrong, and right."""
    counts = f"{mean.n_failed} of {n_trials}"
    return f"{counts}\n{number(if_all_wrong.value)} to {number(if_all_right.value)}" if mean.n_failed else counts


def _features_used(n_used: int, n_scored: int) -> str:
    return str(n_used) if n_used == n_scored else f"{n_used} of {n_scored}"


def _notes(summary: RunSummary) -> Iterable[Text]:
    yield Text(
        "Chance is 0.5 for balanced accuracy. Shuffled: the same test with another feature's explanation. Below the "
        "failed trials: the mean had all of them been wrong, and right.",
        style="dim",
    )
    if any(each.name == "nearest" for row in summary.variants for each in row.baselines):
        yield Text("Nearest: the same test with the explanation of the most similar other feature.", style="dim")
    yield Text(
        "Hidden: the same judge, not told the explanation, on some features. Above chance, above shuffled: features "
        "that pass an exact test with 5 % false discoveries (Benjamini-Hochberg).",
        style="dim",
    )
    for explainer in summary.explainers:
        if explainer.failed:
            yield Text(f"Explanations that failed, {visible(explainer.name)}: {kinds_text(explainer.failed)}")
    if summary.failures:
        yield Text("All failures, controls included, each kind with its first message:")
    for group in summary.failures:
        kind = FailureKind(group.stage, group.kind, group.count, group.samples[0].message)
        yield Text(f"  {visible(kind.line)}")


def kinds_text(counts: KindCounts) -> str:
    """`3 unparsable, 1 timeout`."""
    return ", ".join(f"{count} {visible(kind)}" for kind, count in counts)
