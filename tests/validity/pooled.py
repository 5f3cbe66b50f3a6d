"""The trials of all planted features under one scorer, as one score."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from sae_auto_interp.judges.hidden import HIDDEN
from sae_auto_interp.planted import exact_explanation
from sae_auto_interp.protocols import Scorer
from sae_auto_interp.types import Explanation, FeatureId, FeatureRecord, Score


def pooled(
    scorer: Scorer,
    records: Sequence[FeatureRecord],
    explanation_of: Callable[[FeatureId], Explanation] = exact_explanation,
) -> Score:
    """One score with the trials of all: questions put independently of each other, a sample of known size."""
    scores = asyncio.run(_scores(scorer, records, explanation_of))
    return replace(
        scores[0],
        trials=tuple(trial for score in scores for trial in score.trials),
        choices=tuple(trial for score in scores for trial in score.choices),
        simulations=tuple(trial for score in scores for trial in score.simulations),
    )


def hidden(feature: FeatureId) -> Explanation:
    """What a run tells a judge that it hides the explanation from."""
    return Explanation(feature, HIDDEN, "hidden", "hidden-1")


def of_another(feature: FeatureId) -> Explanation:
    """The explanation of a feature that has no words in common with this one."""
    return exact_explanation(FeatureId(feature.module_path, (feature.index + 4) % 8))


async def _scores(
    scorer: Scorer, records: Sequence[FeatureRecord], explanation_of: Callable[[FeatureId], Explanation]
) -> list[Score]:
    return [await scorer.score(record, explanation_of(record.feature), "e") for record in records]
