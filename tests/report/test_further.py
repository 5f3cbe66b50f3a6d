"""Further metrics stand where they mean something: discrimination beside neighbours, accuracy for SAEBench."""

from dataclasses import replace

import numpy as np
import pytest

from sae_auto_interp.report.summary.further import further_metrics
from sae_auto_interp.types import ExampleSource, Score
from tests.metrics.scores import make_score

SOURCES: tuple[ExampleSource, ...] = ("activating", "activating", "random", "random", "neighbour", "neighbour")


def named(score: Score) -> dict[str, float | None]:
    found = further_metrics({score.feature: score}, {}, lambda what: np.random.default_rng(0), 0.95, 50)
    return {name: mean.estimate.value for name, mean in found.metrics}


def test_discrimination_is_shown_where_there_are_neighbours() -> None:
    over_broad = make_score([1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 1, 1], sources=SOURCES)
    shown = named(over_broad)
    assert shown["discrimination"] == 0.5
    assert (shown["rejected, random"], shown["rejected, neighbour"]) == (1.0, 0.0)
    assert "discrimination" not in named(make_score([1, 0], [1, 0]))


def test_accuracy_is_shown_for_saebench_only() -> None:
    none_fires = make_score([1] * 4 + [0] * 10, [0] * 14)
    assert "accuracy" not in named(none_fires)
    assert named(replace(none_fires, scorer="saebench"))["accuracy"] == pytest.approx(10 / 14)
