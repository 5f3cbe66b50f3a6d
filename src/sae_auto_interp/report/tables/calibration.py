"""What a judge did in the planted world -> a table for the terminal, and JSON.

Sensitivity is the share of firing windows that the model accepted when told the truth, specificity the share of silent
ones that it rejected: random windows, and near misses, in which a similar feature fires. Windows are pooled over the
planted features, which are a fixed set and no sample; intervals are those of single trials.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from sae_auto_interp.metrics import balanced_accuracy, tnr_by_source, tpr, wilson
from sae_auto_interp.metrics.intervals import DEFAULT_LEVEL
from sae_auto_interp.report.display import percent, visible, with_interval
from sae_auto_interp.report.summary.failures import count_kinds
from sae_auto_interp.report.summary.values import KindCounts
from sae_auto_interp.results.failure_kinds import FailureKind, failure_kinds
from sae_auto_interp.types import Estimate, Score, Usage

TOLD, HIDDEN = "told", "hidden"
PER = 100
"""Windows that costs are given for."""


@dataclass(frozen=True, slots=True)
class JudgeReport:
    """A model as judge of one test."""

    scorer: str
    sensitivity: Estimate
    specificity_random: Estimate
    specificity_near: Estimate
    balanced_accuracy: Estimate
    hidden: Estimate
    """Balanced accuracy without the explanation: what is above one half came from elsewhere."""
    failure_rate: Estimate
    """Share of the windows, told and hidden, that got no readable verdict."""
    failures: KindCounts
    first_messages: tuple[FailureKind, ...]
    """The same, each with its first message."""
    n_windows: int
    usage: Usage
    """Usage of all `n_windows`, as the server counted it."""


def judge_reports(conditions: Mapping[str, Sequence[Score]], level: float = DEFAULT_LEVEL) -> list[JudgeReport]:
    """One report per scorer, from the scores of every planted feature {told | hidden: scores}."""
    names = list(dict.fromkeys(score.scorer for score in conditions[TOLD]))
    return [_report(_pooled(conditions[TOLD], name), _pooled(conditions[HIDDEN], name), level) for name in names]


def judge_table(reports: Sequence[JudgeReport], model: str) -> Group:
    """One row per test; below it what failed and what it costs."""
    title = Text(f"{visible(model)} as judge, told the exact explanation of planted features")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Test")
    for heading in ("Sensitivity", "Specificity, random", "near misses", "Balanced accuracy", "Hidden", "Failed"):
        table.add_column(heading, justify="right")
    for each in reports:
        rates = (each.sensitivity, each.specificity_random, each.specificity_near, each.balanced_accuracy, each.hidden)
        table.add_row(each.scorer, *map(with_interval, (*rates, each.failure_rate)))
    level = reports[0].sensitivity.level if reports else DEFAULT_LEVEL
    note = f"{percent(level)} intervals over windows. Hidden: without the explanation; chance is 0.5."
    return Group(table, Text(note, style="dim"), *(Text(line) for each in reports for line in _lines(each)))


def judge_json(reports: Sequence[JudgeReport], model: str) -> str:
    """Everything as JSON, every estimate whole."""
    return json.dumps({"model": model, "tests": [asdict(each) for each in reports]}, indent=2)


def _pooled(scores: Sequence[Score], scorer: str) -> Score:
    own = [score for score in scores if score.scorer == scorer]
    trials = tuple(trial for score in own for trial in score.trials)
    return replace(own[0], trials=trials, usage=sum((score.usage for score in own), Usage()))


def _report(told: Score, hidden: Score, level: float) -> JudgeReport:
    by_source = tnr_by_source(told, level)
    none = Estimate(None, None, None, level, "Wilson", 0, 0, "no such window was asked about")
    failures = (*told.failures, *hidden.failures)
    n = len(told.trials) + len(hidden.trials)
    return JudgeReport(
        scorer=told.scorer,
        sensitivity=tpr(told, level),
        specificity_random=by_source.get("random", none),
        specificity_near=by_source.get("neighbour", none),
        balanced_accuracy=balanced_accuracy(told, level),
        hidden=balanced_accuracy(hidden, level),
        failure_rate=_share(len(failures), n, level),
        failures=count_kinds(failures),
        first_messages=failure_kinds(failures),
        n_windows=n,
        usage=told.usage + hidden.usage,
    )


def _share(n_failed: int, n: int, level: float) -> Estimate:
    interval = wilson(n_failed, n, level)
    return Estimate(n_failed / n, interval.low, interval.high, level, "Wilson", n, 0)


def _lines(each: JudgeReport) -> list[str]:
    usage, share = each.usage, PER / each.n_windows
    cost = (
        f"{share * usage.prompt_tokens:,.0f} tokens in, {share * usage.completion_tokens:,.0f} out"
        if not usage.n_uncounted
        else f"an unknown number of tokens: the server did not count those of {usage.n_uncounted:,} answers"
    )
    cost = f"{each.scorer}: {usage.n_requests:,} requests for {each.n_windows:,} windows; {PER} windows cost {cost}"
    return [cost, *(f"{each.scorer}, failed: {visible(kind.line)}" for kind in each.first_messages)]
