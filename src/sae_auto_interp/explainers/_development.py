"""How well an explanation does on the development pools: what best-of-n and revision choose by.

A judge says of every development example, unmarked, whether the explanation fits it (detection). The pools are never
used for a reported score, so choosing by them cannot flatter the result.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sae_auto_interp.errors import RETRYABLE_KINDS
from sae_auto_interp.protocols import Judge
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Candidate, Example, Failure, FeatureRecord, ShownExample, Usage, Verdict


@dataclass(frozen=True, slots=True)
class DevelopmentResult:
    """Verdicts on the development examples, in the record's order: activating ones, then silent ones."""

    activating: tuple[bool | None, ...]
    """Whether the judge said that it fits; None where the judge failed."""
    silent: tuple[bool | None, ...]
    usage: Usage

    @property
    def balanced_accuracy(self) -> float | None:
        """Over what was judged; None when nothing of a kind was."""
        hits = [verdict for verdict in self.activating if verdict is not None]
        passes = [not verdict for verdict in self.silent if verdict is not None]
        if not hits or not passes:
            return None
        return (sum(hits) / len(hits) + sum(passes) / len(passes)) / 2

    def candidate(self, text: str, *, is_chosen: bool) -> Candidate:
        """The record of this try that goes with the explanation."""
        activating = [verdict for verdict in self.activating if verdict is not None]
        silent = [verdict for verdict in self.silent if verdict is not None]
        n_failed = len(self.activating) + len(self.silent) - len(activating) - len(silent)
        return Candidate(text, is_chosen, sum(activating), len(activating), silent.count(False), len(silent), n_failed)

    def improves_on(self, other: "DevelopmentResult") -> bool:
        """Whether the paired difference of balanced accuracies is larger than its standard error."""
        means: list[float] = []
        variances: list[float] = []
        for own, others in ((self.activating, other.activating), (self.silent, other.silent)):
            pairs = [(a, b) for a, b in zip(own, others, strict=True) if a is not None and b is not None]
            if not pairs:
                return False
            sign = 1 if own is self.activating else -1
            gains = sign * np.array([float(a) - float(b) for a, b in pairs])
            means.append(float(gains.mean()))
            variances.append(float(gains.var()) / len(pairs))
        return sum(means) / 2 > sum(variances) ** 0.5 / 2


async def develop(
    judge: Judge, text: str, record: FeatureRecord, *, n_shown: int, seed: int
) -> DevelopmentResult | Failure:
    """Judge `text` on every development example, `n_shown` at a time, in an order of the feature's own.

    A failure that may heal is the result: what is chosen must not depend on a server's bad moment.
    """
    examples = [*record.dev, *record.non_activating.dev]
    order = derived_rng(seed, "development.order", record.feature).permutation(len(examples))
    batches = [order[i : i + n_shown] for i in range(0, len(order), n_shown)]
    answers = await asyncio.gather(*(_judged(judge, text, [examples[int(i)] for i in batch]) for batch in batches))
    verdicts: list[bool | None] = [None] * len(examples)
    for batch, (found, _) in zip(batches, answers, strict=True):
        for i, verdict in zip(batch, found, strict=True):
            if isinstance(verdict, Verdict):
                verdicts[int(i)] = verdict.matches
            elif verdict.kind in RETRYABLE_KINDS:
                return verdict
    usage = sum((spent for _, spent in answers), Usage())
    n = len(record.dev)
    return DevelopmentResult(tuple(verdicts[:n]), tuple(verdicts[n:]), usage)


def no_development(record: FeatureRecord) -> Failure | None:
    """Why an explanation cannot be chosen, if it cannot."""
    if record.dev and record.non_activating.dev:
        return None
    message = f"{record.feature} has no development examples; set features.n_dev and features.n_non_activating_dev"
    return Failure("explain", "no_development_examples", message)


async def _judged(judge: Judge, text: str, batch: Sequence[Example]) -> tuple[list[Verdict | Failure], Usage]:
    return await judge.judge(text, [ShownExample(example.str_tokens) for example in batch], "detection")
