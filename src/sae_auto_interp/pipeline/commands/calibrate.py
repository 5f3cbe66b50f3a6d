"""A language model put to the planted world: how good a judge it is, and what judging costs, before a run is paid for.

Every planted feature is scored with its exact explanation, and once more with the explanation hidden. Whatever the
model gets wrong with the exact one is its own mistake, since the explanation is true by construction.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sae_auto_interp.config import ClientConfig
from sae_auto_interp.errors import ConfigError
from sae_auto_interp.judges import HiddenJudge, LlmJudge
from sae_auto_interp.pipeline.clients.open_clients import open_client
from sae_auto_interp.pipeline.score_stage import any_answer
from sae_auto_interp.pipeline.workers import together
from sae_auto_interp.planted import PlantedWorld, exact_explanation, record_config
from sae_auto_interp.protocols import Client, Judge, Progress
from sae_auto_interp.results.failure_kinds import failure_kinds
from sae_auto_interp.scorers import DetectionScorer, FuzzingScorer
from sae_auto_interp.types import FeatureRecord, Score

TOLD, HIDDEN = "told", "hidden"
Conditions = Mapping[str, Sequence[Score]]
"""What the judge was told (`told`: the truth, `hidden`: nothing) -> scores of all features, scorer by scorer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationOptions:
    """How much to ask. The defaults make about 200 requests."""

    n_examples: int = 10
    """Windows per feature in which it fires, and as many silent ones, half of them near misses."""
    n_shown: int = 5
    """Windows per prompt, as in the run that is planned."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.n_examples <= 20:
            raise ConfigError(f"calibrate: n_examples={self.n_examples}; give 2 to 20, the planted world has no more")


async def run_calibration(config: ClientConfig, options: CalibrationOptions, progress: Progress) -> Conditions:
    """Open the endpoint and measure the model there. Raises `ClientError` when it cannot be reached."""
    client, abilities = await open_client(config)
    try:
        progress.note(f"{client.model}: {abilities}")
        return await calibrate(client, options, progress)
    finally:
        await client.close()


async def calibrate(client: Client, options: CalibrationOptions, progress: Progress) -> Conditions:
    """Scores of every planted feature by detection and fuzzing, with the explanation told and hidden."""
    judge = LlmJudge(client=client)
    judges: dict[str, Judge] = {TOLD: judge, HIDDEN: HiddenJudge(of=judge)}
    records = _records(options)
    progress.start("calibrate", len(judges) * 2 * len(records), 0, "scores")
    found = {name: await _scores(asked, records, options, progress) for name, asked in judges.items()}
    progress.finish()
    return found


def without_verdicts(conditions: Conditions) -> tuple[str, ...]:
    """A line for each test in which no window at all got a readable verdict with the explanation told."""
    found: list[str] = []
    for name in dict.fromkeys(score.scorer for score in conditions[TOLD]):
        scores = [score for score in conditions[TOLD] if score.scorer == name]
        if not any(map(any_answer, scores)):
            (kind, *_) = failure_kinds(failure for score in scores for failure in score.failures)
            found.append(f"{name} got no readable verdict ({kind.line})")
    return tuple(found)


def _records(options: CalibrationOptions) -> list[FeatureRecord]:
    n_near = options.n_examples // 2
    cfg = record_config(options.n_examples, n_random=options.n_examples - n_near, n_near=n_near, seed=options.seed)
    with tempfile.TemporaryDirectory() as folder:
        return PlantedWorld.make(Path(folder), seed=options.seed).records(cfg)


async def _scores(
    judge: Judge, records: Sequence[FeatureRecord], options: CalibrationOptions, progress: Progress
) -> list[Score]:
    scorers = [
        scorer(judge=judge, n_shown=options.n_shown, seed=options.seed) for scorer in (DetectionScorer, FuzzingScorer)
    ]
    found: dict[tuple[int, int], Score] = {}

    async def score(i: int, j: int) -> None:
        record = records[j]
        found[i, j] = await scorers[i].score(record, exact_explanation(record.feature), f"exact/{record.feature}")
        progress.advance()

    await together(score(i, j) for i in range(len(scorers)) for j in range(len(records)))
    return [found[place] for place in sorted(found)]
