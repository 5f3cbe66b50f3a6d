"""What a run will take before anything is spent: requests, tokens, money, time, memory and disk.

Requests and tokens come from the run's own prompts on a few records, or on all of them where the cache is finished
(`plan_requests`, `plan_records`, `plan_tokens`). Time is what the limit allows at an assumed time per answer. Disk and
memory are in `plan_sizes`. What is assumed is printed beside the figures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from sae_auto_interp.config import ClientConfig, RunConfig
from sae_auto_interp.pipeline.components import check_components
from sae_auto_interp.pipeline.controls.lexical_baseline import has_lexical_baseline, lexical_only
from sae_auto_interp.pipeline.plan_measured import Measured
from sae_auto_interp.pipeline.planning.records import ModuleSample, sampled_records
from sae_auto_interp.pipeline.planning.requests import Planned, planned
from sae_auto_interp.pipeline.planning.sizes import Sizes, planned_sizes
from sae_auto_interp.results.codec import encode_record, encode_score
from sae_auto_interp.types import FeatureRecord, Usage
from sae_auto_interp.types.spending import Price

SECONDS_PER_ANSWER = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What cannot be known beforehand."""

    characters_per_token: float | None = None
    """Of a tokenizer that is known; None: by the pieces that current tokenizers cut text into."""
    seconds_per_answer: float = SECONDS_PER_ANSWER
    usd_per_million_prompt_tokens: float | None = None
    """None: by the price of the run file's endpoint."""
    usd_per_million_completion_tokens: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run will take, but for the short questions by which an endpoint is tried."""

    evidence: str
    """Where the records came from that this was counted on."""
    n_features: int
    explain: Usage
    score: Usage
    control: Usage
    """Explanations of other features (shuffled, nearest), and hidden ones."""
    usd: float | None
    answer_seconds: float
    """Of the language model at the run's limit; caching comes on top."""
    sizes: Sizes

    @property
    def usage(self) -> Usage:
        return self.explain + self.score + self.control


async def make_plan(
    config: RunConfig, root: Path | None = None, assumed: Assumptions | None = None, measured: Measured | None = None
) -> Plan:
    """Plan a run file, with the records of the cache in `root` where it is finished. Asks no model, stores nothing.

    `measured`: what was seen of the subject model and its autoencoders, where they were loaded (`plan_measured`).
    Raises what a run would raise for a wrong configuration.
    """
    assumed = assumed or Assumptions()
    check_components(config)
    sample = sampled_records(config, root)
    modules = [await _Module.of(module, config, assumed) for module in sample.modules]
    explain, score, control, probe = (
        sum(map(part, modules), Usage()) for part in (_Module.explain, _Module.score, _Module.control, _Module.probe)
    )
    total = explain + score + control + probe
    stored, n_scores = sum(module.stored_bytes() for module in modules), sum(module.n_scores() for module in modules)
    return Plan(
        evidence=sample.source, n_features=sample.n_features, explain=explain, score=score, control=control + probe,
        usd=_usd(config, explain, score + control + probe, assumed),
        answer_seconds=_answer_seconds(config, total, assumed),
        sizes=planned_sizes(config, root, n_scores, stored, total.n_requests, measured),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Module:
    """The features of one module: what some of them take, in the run's order, and how many there are of each kind."""

    records: Sequence[FeatureRecord]
    costs: Sequence[Sequence[Planned]]
    """By record and explainer."""
    rule_bytes: float
    n_rule_scores: int
    """What the lexical baseline stores; it asks nothing."""
    n: int
    n_shuffled: int
    """That get another feature's explanation."""
    n_nearest: int
    """That get the most similar feature's."""
    n_probed: int
    """Whose questions are also put with the explanation hidden."""

    @classmethod
    async def of(cls, sample: ModuleSample, config: RunConfig, assumed: Assumptions) -> "_Module":
        costs = await planned(config, sample.records, assumed.characters_per_token)
        n = sample.n_features
        n_ruled = _limited(n, config.n_lexical) if has_lexical_baseline(config) else 0
        rule_bytes = n_ruled * await _lexical_bytes(config, sample.records) if n_ruled else 0.0
        n_rule_scores = n_ruled * len(lexical_only(config).scorers)
        n_shuffled, n_nearest = (
            0 if n < 2 else _limited(n, limit) for limit in (config.n_shuffled, config.n_nearest)
        )  # fmt: skip
        n_probed = _limited(n, config.n_hidden)
        return cls(sample.records, costs, rule_bytes, n_rule_scores, n, n_shuffled, n_nearest, n_probed)

    def explain(self) -> Usage:
        return self._total(attrgetter("explain"), self.n)

    def score(self) -> Usage:
        return self._total(attrgetter("score"), self.n)

    def control(self) -> Usage:
        part = attrgetter("control")
        return self._total(part, self.n_shuffled) + self._total(part, self.n_nearest)

    def probe(self) -> Usage:
        return self._total(attrgetter("probe"), self.n_probed)

    def stored_bytes(self) -> float:
        """Of records and scores in the results."""
        records = sum(len(encode_record(record)) for record in self.records) / len(self.records)
        scores = [sum(len(encode_score(s)) for cost in each for s in cost.scores) for each in self.costs]
        probes = [sum(len(encode_score(s)) for s in each[0].scores if each[0].probe.n_requests) for each in self.costs]
        per_score, per_probe = sum(scores) / len(scores), sum(probes) / len(probes)
        every_score = (self.n + self.n_shuffled + self.n_nearest) * per_score + self.n_probed * per_probe
        return self.n * records + every_score + self.rule_bytes

    def n_scores(self) -> int:
        """All that the report has a place for."""
        of_a_feature = sum(len(cost.scores) for cost in self.costs[0])
        probes = len(self.costs[0][0].scores)
        n_explained = self.n + self.n_shuffled + self.n_nearest
        return n_explained * of_a_feature + self.n_probed * probes + self.n_rule_scores

    def _total(self, part: Callable[[Planned], Usage], n: int) -> Usage:
        """Of the first `n` features; where there are fewer records, as if the others were like them."""
        counted = self.costs[:n]
        total = sum((part(cost) for each in counted for cost in each), Usage())
        factor = n / len(counted) if counted else 0.0
        return Usage(*(round(factor * x) for x in (total.prompt_tokens, total.completion_tokens, total.n_requests)))


async def _lexical_bytes(config: RunConfig, records: Sequence[FeatureRecord]) -> float:
    costs = await planned(lexical_only(config), records)
    return sum(len(encode_score(s)) for each in costs for cost in each for s in cost.scores) / len(records)


def _limited(n: int, limit: int | None) -> int:
    return n if limit is None else min(n, limit)


def _usd(config: RunConfig, explaining: Usage, judging: Usage, assumed: Assumptions) -> float | None:
    """None where a price is lacking; verdicts that choose among explanations count as the explainer's."""
    parts = [(explaining, config.for_explaining), (judging, config.for_scoring)]
    usd = [_price(usage, endpoint, assumed) for usage, endpoint in parts if usage.n_requests]
    known = [each for each in usd if each is not None]
    return sum(known) if known and len(known) == len(usd) else None


def _price(usage: Usage, endpoint: ClientConfig | None, assumed: Assumptions) -> float | None:
    noted = None if endpoint is None or endpoint.price is None else endpoint.price.price
    prompt, completion = assumed.usd_per_million_prompt_tokens, assumed.usd_per_million_completion_tokens
    if noted is not None:
        prompt = noted.usd_per_million_prompt_tokens if prompt is None else prompt
        completion = noted.usd_per_million_completion_tokens if completion is None else completion
    if prompt is None or completion is None:
        return None
    return Price(prompt, completion).usd(usage.prompt_tokens, usage.completion_tokens)


def _answer_seconds(config: RunConfig, usage: Usage, assumed: Assumptions) -> float:
    limit = config.for_scoring.max_concurrency if config.for_scoring else 1
    return usage.n_requests * assumed.seconds_per_answer / limit
