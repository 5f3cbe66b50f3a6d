"""Explanations that were chosen among several: what they had on the examples that chose them, and what on the test.

The best of several is best partly by luck, and only on the development examples is that luck counted in. So the two
scores stand side by side, with their paired difference: the optimism of the choice. It is also what differs between the
development pools and the test pools; `unchosen`, the mean of the candidates that were passed over, tells how much there
was to choose from.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sae_auto_interp.metrics import RunMetric, development_accuracy, mean_over_features, paired_difference
from sae_auto_interp.metrics.over_features import defined
from sae_auto_interp.report.summary.variants import Variant
from sae_auto_interp.types import Estimate, Explanation, FeatureId

CHOSEN_BY = "detection"
"""The test that development examples are put to."""
Generator = Callable[[str], np.random.Generator]


@dataclass(frozen=True, slots=True)
class Tried:
    """One candidate of one feature."""

    text: str
    is_chosen: bool
    development: Estimate
    """Balanced accuracy on the development examples."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How an explainer that chooses did by the examples that chose, and by those that nobody chose by."""

    variant: Variant
    n_candidates: float
    """Different ones, mean over features."""
    development: RunMetric
    """Balanced accuracy of the chosen explanations on the development examples."""
    unchosen: RunMetric
    """The mean of the candidates not chosen there, averaged per feature."""
    test: RunMetric
    """The chosen candidates on the test examples, same features."""
    optimism: Estimate
    """Paired over features: development minus test."""


def tried_of(explanation: Explanation, level: float) -> tuple[Tried, ...]:
    """The candidates of an explanation, in the order of trying."""
    return tuple(Tried(c.text, c.is_chosen, development_accuracy(c, level)) for c in explanation.candidates)


def choices_of(
    explanations: Sequence[Explanation],
    accuracies: Mapping[Variant, Mapping[FeatureId, Estimate]],
    generator: Callable[[str, Variant], np.random.Generator],
    level: float,
    n_resamples: int,
) -> Iterator[Choice]:
    """One per explainer that chose and judge that put its explanations to the same test."""
    tried = {(e.explainer, e.feature): tried_of(e, level) for e in explanations if e.candidates}
    for variant in sorted(accuracies):
        of = {f: found for (name, f), found in tried.items() if name == variant.explainer}
        if not of or variant.scorer != CHOSEN_BY or variant.is_hidden:
            continue
        test = {f: estimate for f, estimate in accuracies[variant].items() if f in of}
        yield _choice(variant, of, test, lambda what, v=variant: generator(what, v), level, n_resamples)


def _choice(
    variant: Variant,
    tried: Mapping[FeatureId, tuple[Tried, ...]],
    test: Mapping[FeatureId, Estimate],
    generator: Generator,
    level: float,
    n_resamples: int,
) -> Choice:
    development = {f: next(t.development for t in found if t.is_chosen) for f, found in tried.items()}
    unchosen = {f: mean for f, found in tried.items() if (mean := _unchosen(found, level)) is not None}
    n_failed = sum(e.n_failed for e in (*development.values(), *test.values()))
    return Choice(
        variant=variant,
        n_candidates=sum(map(len, tried.values())) / len(tried),
        development=mean_over_features(development, generator("development"), level, n_resamples),
        unchosen=mean_over_features(unchosen, generator("unchosen"), level, n_resamples),
        test=mean_over_features(test, generator("chosen test"), level, n_resamples),
        optimism=paired_difference(
            defined(development), defined(test), generator("optimism"), level, n_resamples, n_failed
        ),
    )


def _unchosen(tried: tuple[Tried, ...], level: float) -> Estimate | None:
    """Mean of a feature's other candidates; None where it has no other."""
    others = [t.development for t in tried if not t.is_chosen]
    if not others:
        return None
    values = [e.value for e in others if e.value is not None]
    n, n_failed = sum(e.n for e in others), sum(e.n_failed for e in others)
    if not values:
        return Estimate(None, None, None, level, "mean of candidates", n, n_failed, others[0].reason)
    return Estimate(sum(values) / len(values), None, None, level, "mean of candidates", n, n_failed)
