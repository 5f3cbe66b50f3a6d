"""`RunSummary` -> files for programs: report.json, features.jsonl and scores.tsv, with every number of the pages.

    report.json      the run: everything but the features, as one object
    features.jsonl   one feature a line, in the order of the page: all but its examples
    scores.tsv       one number a line: feature, explainer, test, judge, metric, quantile, and its whole Estimate

Wherever a number is the result of a measurement it is an `Estimate`, whole: value, low, high, level, method, n,
n_failed, reason. What is undefined is null with a reason. Numbers have 6 significant digits. Half characters, which a
tokenizer may leave, become the replacement character: the files are valid UTF-8.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import cast

from sae_auto_interp.report.display import visible
from sae_auto_interp.report.summary.values import FeatureSummary, QuantileCurve, RunSummary
from sae_auto_interp.report.summary.variants import Variant
from sae_auto_interp.types import Estimate, FeatureId

SIGNIFICANT_DIGITS = 6
COLUMNS = (
    "feature", "explainer", "test", "judge", "metric", "quantile", "value", "low", "high", "level", "n", "n_failed",
    "method", "reason",
)  # fmt: skip


def exported_files(summary: RunSummary) -> Iterator[tuple[str, Iterator[str]]]:
    """(file name, its text in pieces)."""
    yield "report.json", iter([json.dumps(run_json(summary), ensure_ascii=False, indent=1), "\n"])
    yield "features.jsonl", (_line(feature) for feature in summary.features)
    yield "scores.tsv", _score_lines(summary.features)


def run_json(summary: RunSummary) -> object:
    """The run without its features."""
    named = {field.name: getattr(summary, field.name) for field in fields(summary) if field.name != "features"}
    return as_json({**named, "n_features": len(summary.features)})


def as_json(value: object) -> object:
    """What `json` writes: dataclasses become objects by field, tuples lists, feature ids their text."""
    if isinstance(value, FeatureId):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        entries = cast("Mapping[object, object]", value)
        return {_whole(str(key)): as_json(each) for key, each in entries.items()}
    if isinstance(value, str):
        return _whole(value)
    if isinstance(value, Sequence):
        return [as_json(each) for each in cast("Sequence[object]", value)]
    if isinstance(value, float):
        assert math.isfinite(value), value
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    assert value is None or isinstance(value, bool | int), type(value)
    return value


def replace_file(path: Path, pieces: Iterator[str]) -> None:
    """Write beside `path`, then rename: a reader sees the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _line(feature: FeatureSummary) -> str:
    return json.dumps(as_json(feature), ensure_ascii=False, separators=(",", ":")) + "\n"


def _whole(text: str) -> str:
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _score_lines(features: Sequence[FeatureSummary]) -> Iterator[str]:
    yield "\t".join(COLUMNS) + "\n"
    for feature in features:
        for variant, metric, quantile, estimate in _estimates_of(feature):
            yield _row(feature.feature, variant, metric, quantile, estimate)


def _estimates_of(feature: FeatureSummary) -> Iterator[tuple[Variant, str, int | None, Estimate | None]]:
    for score in feature.scores:
        named = {
            "balanced_accuracy": score.balanced_accuracy,
            "balanced_accuracy_shuffled": score.shuffled,
            "balanced_accuracy_if_all_wrong": score.if_all_wrong,
            "balanced_accuracy_if_all_right": score.if_all_right,
            "tpr": score.tpr,
            "tnr": score.tnr,
            "auroc": score.auroc,
            "precision_in_text": score.precision_in_text,
        }
        yield from ((score.variant, metric, None, estimate) for metric, estimate in named.items())
        yield from _curve(score.variant, "tpr", score.tpr_by_quantile)
    for other in feature.others:
        name = other.metric.lower()
        yield other.variant, name, None, other.own
        yield other.variant, f"{name}_shuffled", None, other.shuffled
        yield other.variant, f"{name}_if_all_wrong", None, other.if_all_wrong
        yield other.variant, f"{name}_if_all_right", None, other.if_all_right
        yield from _curve(other.variant, name, other.by_quantile)


def _curve(
    variant: Variant, metric: str, rates: QuantileCurve
) -> Iterator[tuple[Variant, str, int | None, Estimate | None]]:
    yield from ((variant, metric, quantile, estimate) for quantile, estimate in rates)


def _row(feature: FeatureId, variant: Variant, metric: str, quantile: int | None, estimate: Estimate | None) -> str:
    """Empty cells where there is nothing; no row for what was not asked for."""
    if estimate is None:
        return ""
    e = estimate
    numbers = (e.value, e.low, e.high, e.level)
    cells = [str(feature), variant.explainer, variant.scorer, variant.judge, metric, _text(quantile)]
    cells += [_text(number) for number in numbers]
    cells += [str(e.n), str(e.n_failed), e.method, e.reason or ""]
    return "\t".join(visible(cell) for cell in cells) + "\n"


def _text(number: float | None) -> str:
    return "" if number is None else f"{number:.{SIGNIFICANT_DIGITS}g}"
