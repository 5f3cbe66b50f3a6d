"""What a score is to be compared with: explanations of other features, lexical and hidden ones, and a constant judge.

    shuffled   the explanation of another feature, same questions, same judge
    nearest    the explanation of the most similar other feature of the run: what the feature's kind is worth
    lexical    the token rule of the lexical explainer under its own judge, same test: what needs no language model
    hidden     the same questions to the same judge, not told the explanation: what else gives the answers away
    constant   always yes, or always no: exactly 0.5

Skill is the share of what there was to gain over a baseline, on the features that have both.

Feature by feature: better than chance, better than the shuffled explanation? With the false discovery rate bounded.

In: a variant's scores, and its control's. Out: how many features pass at a false discovery rate of 5 %. The tests are
exact (`metrics.significance`); p-values are adjusted by Benjamini and Hochberg over the features of the variant.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from sae_auto_interp.metrics import (
    Significance,
    benjamini_hochberg,
    chance_test,
    mean_over_features,
    shuffled_test,
    skill,
)
from sae_auto_interp.metrics.over_features import defined
from sae_auto_interp.report.summary.values import BaselineSkill, FeatureTests
from sae_auto_interp.report.summary.variants import HIDDEN_PREFIX, LEXICAL, Variant
from sae_auto_interp.types import Estimate, FeatureId, Score

CONSTANT = 0.5


Accuracies = Mapping[Variant, Mapping[FeatureId, Estimate]]
"""Balanced accuracy of each feature under each variant."""


Generator = Callable[[str], np.random.Generator]
"""What the random numbers are for -> a generator of its own."""


def baselines_of(
    variant: Variant, control: Variant, accuracies: Accuracies, generator: Generator, level: float, n_resamples: int
) -> tuple[BaselineSkill, ...]:
    """The baselines of a variant that the run has, and the constant one, which every run has."""
    own = defined(accuracies[variant])
    found = [
        BaselineSkill(
            name,
            mean_over_features(beside, generator(f"baseline {name}"), level, n_resamples).estimate,
            skill(own, defined(beside), generator(f"skill over {name}"), level, n_resamples),
        )
        for name, beside in _beside(variant, control, accuracies)
    ]
    constant = Estimate(CONSTANT, None, None, level, "exact", len(own), 0)
    everywhere = dict.fromkeys(own, CONSTANT)
    over_constant = skill(own, everywhere, generator("skill over constant"), level, n_resamples)
    return (*found, BaselineSkill("constant", constant, over_constant))


def _beside(
    variant: Variant, control: Variant, accuracies: Accuracies
) -> Iterator[tuple[str, Mapping[FeatureId, Estimate]]]:
    if control in accuracies:
        yield "shuffled", accuracies[control]
    if variant.nearest in accuracies:
        yield "nearest", accuracies[variant.nearest]
    lexical = Variant(LEXICAL, variant.scorer, LEXICAL)
    if lexical in accuracies and variant != lexical:
        yield LEXICAL, accuracies[lexical]
    hidden = sorted(v for v in accuracies if (v.scorer, v.judge) == (variant.scorer, HIDDEN_PREFIX + variant.judge))
    if hidden:
        yield "hidden", {feature: e for v in hidden for feature, e in accuracies[v].items()}


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
