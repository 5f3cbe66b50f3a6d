"""What a run will take before anything is spent: requests, tokens, money, time, memory and disk.

Requests and tokens come from the run's own prompts on a few records, or on all of them where the cache is finished
(`plan_requests`, `plan_records`, `plan_tokens`). Time is what the limit allows at an assumed time per answer. Disk and
memory are in `plan_sizes`. What is assumed is printed beside the figures.

A plan in lines for people, with what was assumed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from sae_auto_interp.config import ClientConfig, RunConfig
from sae_auto_interp.pipeline.planning.records import ModuleSample, sampled_records
from sae_auto_interp.pipeline.planning.requests import Planned, left_out, planned
from sae_auto_interp.pipeline.planning.sizes import Measured, Sizes, planned_sizes
from sae_auto_interp.pipeline.progress.state import duration
from sae_auto_interp.pipeline.resolved import Components, Endpoints, ResolvedRun, resolve
from sae_auto_interp.results.codec import encode_record, encode_score
from sae_auto_interp.types import FeatureRecord, Usage
from sae_auto_interp.types.spending import Price

SECONDS_PER_ANSWER = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What cannot be known beforehand."""

    characters_per_token: float | None = None
    """Characters per token of a known tokenizer; None: an estimate by how current tokenizers cut text."""
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
    """Seconds of the language model's answers at the run's limit; caching comes on top."""
    n_at_once: int
    """Requests in flight at most."""
    left_out: tuple[str, ...]
    """Scorers that are not counted."""
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
    run = resolve(config)
    sample = sampled_records(run.inputs, run.records, root)
    modules = [await _Module.of(module, run, assumed) for module in sample.modules]
    explain, score, control, probe = (
        sum(map(part, modules), Usage()) for part in (_Module.explain, _Module.score, _Module.control, _Module.probe)
    )
    total = explain + score + control + probe
    stored, n_scores = sum(module.stored_bytes() for module in modules), sum(module.n_scores() for module in modules)
    n_kept = total.n_requests if run.endpoints.keeps_responses else 0
    return Plan(
        evidence=sample.source, n_features=sample.n_features, explain=explain, score=score, control=control + probe,
        usd=_usd(run.endpoints, explain, score + control + probe, assumed),
        answer_seconds=total.n_requests * assumed.seconds_per_answer / _n_at_once(run.endpoints),
        n_at_once=_n_at_once(run.endpoints), left_out=tuple(left_out(run.components.scorers)),
        sizes=planned_sizes(run.inputs, root, n_scores, stored, n_kept, measured),
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
    n_blind: int
    """Whose questions are also put with the explanation hidden."""

    @classmethod
    async def of(cls, sample: ModuleSample, run: ResolvedRun, assumed: Assumptions) -> "_Module":
        costs = await planned(run.components, sample.records, assumed.characters_per_token)
        n = sample.n_features
        controls, lexical = run.controls, run.lexical
        n_ruled = 0 if lexical is None else _limited(n, controls.n_lexical)
        rule_bytes = 0.0 if lexical is None else n_ruled * await _lexical_bytes(lexical, sample.records)
        n_rule_scores = 0 if lexical is None else n_ruled * len(lexical.scorers)
        n_shuffled, n_nearest = (
            0 if n < 2 else _limited(n, limit) for limit in (controls.n_shuffled, controls.n_nearest)
        )  # fmt: skip
        n_blind = _limited(n, controls.n_hidden)
        return cls(sample.records, costs, rule_bytes, n_rule_scores, n, n_shuffled, n_nearest, n_blind)

    def explain(self) -> Usage:
        return self._total(attrgetter("explain"), self.n)

    def score(self) -> Usage:
        return self._total(attrgetter("score"), self.n)

    def control(self) -> Usage:
        part = attrgetter("control")
        return self._total(part, self.n_shuffled) + self._total(part, self.n_nearest)

    def probe(self) -> Usage:
        return self._total(attrgetter("probe"), self.n_blind)

    def stored_bytes(self) -> float:
        """Return the bytes of records and scores in the results."""
        records = sum(len(encode_record(record)) for record in self.records) / len(self.records)
        scores = [sum(len(encode_score(s)) for cost in each for s in cost.scores) for each in self.costs]
        probes = [sum(len(encode_score(s)) for s in each[0].scores if each[0].probe.n_requests) for each in self.costs]
        per_score, per_probe = sum(scores) / len(scores), sum(probes) / len(probes)
        every_score = (self.n + self.n_shuffled + self.n_nearest) * per_score + self.n_blind * per_probe
        return self.n * records + every_score + self.rule_bytes

    def n_scores(self) -> int:
        """All that the report has a place for."""
        of_a_feature = sum(len(cost.scores) for cost in self.costs[0])
        probes = len(self.costs[0][0].scores)
        n_explained = self.n + self.n_shuffled + self.n_nearest
        return n_explained * of_a_feature + self.n_blind * probes + self.n_rule_scores

    def _total(self, part: Callable[[Planned], Usage], n: int) -> Usage:
        """Return the usage of the first `n` features; where there are fewer records, as if the others were like
        them."""
        counted = self.costs[:n]
        total = sum((part(cost) for each in counted for cost in each), Usage())
        factor = n / len(counted) if counted else 0.0
        return Usage(*(round(factor * x) for x in (total.prompt_tokens, total.completion_tokens, total.n_requests)))


async def _lexical_bytes(lexical: Components, records: Sequence[FeatureRecord]) -> float:
    costs = await planned(lexical, records)
    return sum(len(encode_score(s)) for each in costs for cost in each for s in cost.scores) / len(records)


def _limited(n: int, limit: int | None) -> int:
    return n if limit is None else min(n, limit)


def _usd(endpoints: Endpoints, explaining: Usage, judging: Usage, assumed: Assumptions) -> float | None:
    """None where a price is lacking; verdicts that choose among explanations count as the explainer's."""
    parts = [(explaining, endpoints.explaining.settings), (judging, endpoints.judging.settings)]
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


def _n_at_once(endpoints: Endpoints) -> int:
    return endpoints.judging.settings.max_concurrency if endpoints.judging.settings else 1


def plan_lines(plan: Plan, assumed: Assumptions) -> list[str]:
    """One line for each thing that a run takes; then the assumptions."""
    rows = {
        "features": f"{plan.n_features:,}",
        "explain": _tokens(plan.explain),
        "score": _tokens(plan.score),
        "controls": _tokens(plan.control),
        "in all": _tokens(plan.usage),
        "price": "no prices given" if plan.usd is None else f"{plan.usd:,.2f} USD",
        "time of answers": f"{duration(plan.answer_seconds)} ({plan.n_at_once} at once); caching comes on top",
        "memory": f"{_size(plan.sizes.ram)}, on the GPU {_size(plan.sizes.vram)} (rough)",
        "disk": f"{_size(plan.sizes.cache)} of tokens and activations, {_size(plan.sizes.results)} of results; "
        f"{_size(plan.sizes.answers)} in the cache of answers (with log-probabilities up to seven times that)",
    }
    return [f"{name + ':':<18} {value}" for name, value in rows.items()] + [
        *([f"not counted:       {', '.join(plan.left_out)}"] if plan.left_out else []),
        "",
        f"estimates: requests and tokens from {plan.evidence}, {_ratio(assumed)}, {assumed.seconds_per_answer:g} s per "
        f"answer; disk by {plan.sizes.basis}; nothing asked twice; once per endpoint, a dozen short questions about "
        "what it can do come on top",
    ]


def _ratio(assumed: Assumptions) -> str:
    if assumed.characters_per_token is None:
        return "tokens as current tokenizers cut text"
    return f"{assumed.characters_per_token:g} characters per token"


def _tokens(usage: Usage) -> str:
    return f"{usage.n_requests:,} requests, {usage.prompt_tokens:,} + {usage.completion_tokens:,} tokens"


def _size(mib: float | None) -> str:
    if mib is None:
        return "unknown (the weights are not here)"
    return f"{mib / 1024:,.1f} GiB" if mib >= 1024 else f"{mib:,.0f} MiB"
