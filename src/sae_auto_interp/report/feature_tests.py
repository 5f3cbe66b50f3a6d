"""Feature by feature: better than chance, better than the shuffled explanation? With the false discovery rate bounded.

In: a variant's scores, and its control's. Out: how many features pass at a false discovery rate of 5 %. The tests are
exact (`metrics.significance`); p-values are adjusted by Benjamini and Hochberg over the features of the variant.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from sae_auto_interp.metrics import Significance, benjamini_hochberg, chance_test, shuffled_test
from sae_auto_interp.report.summary.values import FeatureTests
from sae_auto_interp.types import FeatureId, Score

FDR = 0.05
Scores = Mapping[FeatureId, Score]


def above_chance(scores: Scores) -> FeatureTests:
    """Fisher's exact test of verdicts against truth."""
    return _counted(chance_test(score) for score in scores.values())


def above_shuffled(scores: Scores, shuffled: Scores) -> FeatureTests | None:
    """McNemar's exact test against the same questions with another feature's explanation; None without any."""
    both = sorted(scores.keys() & shuffled.keys())
    return _counted(shuffled_test(scores[f], shuffled[f]) for f in both) if both else None


def _counted(tests: Iterable[Significance]) -> FeatureTests:
    every = [test.p_value for test in tests]
    p_values = np.array([p for p in every if p is not None], dtype=np.float64)
    n_passed = int((benjamini_hochberg(p_values) <= FDR).sum()) if len(p_values) else 0
    return FeatureTests(n_passed, len(p_values), len(every) - len(p_values), FDR)
