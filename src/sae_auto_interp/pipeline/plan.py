"""What a run will take before anything is spent: requests, tokens, money, time, memory and disk.

Requests and tokens come from the run's own prompts on a few records (`plan_requests`, `plan_records`). Time is what
the limit allows at an assumed time per answer. Disk is what the cache keeps per activation, and what a few records and
scores take when they are stored. Memory is that of the weights, by the size of their files, and of the cache's buffers.
What is assumed is printed beside the figures.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sae_auto_interp.config import AutoencoderConfig, RunConfig, resolve_path
from sae_auto_interp.pipeline.components import check_components
from sae_auto_interp.pipeline.lexical_baseline import has_lexical_baseline, lexical_only
from sae_auto_interp.pipeline.plan_records import sampled_records
from sae_auto_interp.pipeline.plan_requests import CHARACTERS_PER_TOKEN, Asked, planned
from sae_auto_interp.results.codec import encode_record, encode_score
from sae_auto_interp.types import FeatureRecord, Usage

BYTES_PER_ACTIVATION = 6
"""Of the cache, offsets and statistics included (docs/benchmarks.md)."""
ACTIVE_PER_TOKEN = 64
"""Assumed where an autoencoder's files do not say how many of its features fire."""
SECONDS_PER_ANSWER = 1.0
PROCESS_MIB = 450
"""Interpreter, torch and transformers."""
WEIGHT_FILES = ("*.safetensors", "*.bin", "*.npz", "*.pt")
MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What cannot be known beforehand."""

    characters_per_token: float = CHARACTERS_PER_TOKEN
    seconds_per_answer: float = SECONDS_PER_ANSWER
    usd_per_million_prompt_tokens: float | None = None
    usd_per_million_completion_tokens: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Sizes in MiB; None where nothing local tells."""

    evidence: str
    """Where the records came from that this was counted on."""
    n_features: int
    explain: Usage
    score: Usage
    control: Usage
    """Shuffled explanations, and hidden ones."""
    usd: float | None
    answer_seconds: float
    """Of the language model at the run's limit; caching comes on top."""
    ram_mib: float | None
    vram_mib: float | None
    cache_mib: float
    results_mib: float

    @property
    def usage(self) -> Usage:
        return self.explain + self.score + self.control


async def make_plan(config: RunConfig, root: Path | None = None, assumed: Assumptions | None = None) -> Plan:
    """Plan a run file, with the records of the cache in `root` where it is finished. Asks no model, stores nothing.

    Raises what a run would raise for a wrong configuration.
    """
    assumed = assumed or Assumptions()
    check_components(config)
    records, evidence = sampled_records(config, root)
    every = [one for each in (await planned(config, records)).values() for one in each]
    modules = _n_modules(config)
    n_features, n_controls = _n_features(config, modules)
    ratio = assumed.characters_per_token
    explain = _scaled((p.explain for p in every), n_features / len(records)).usage(ratio)
    score = _scaled((p.score for p in every), n_features / len(records)).usage(ratio)
    control = _scaled((p.control for p in every), n_controls / len(records)).usage(ratio)
    probe = _scaled((p.probe for p in every), _n_probed(config, modules) / len(records)).usage(ratio)
    total = explain + score + control + probe
    stored = sum(len(encode_record(record)) for record in records) / len(records)
    scores = sum(len(encode_score(s)) for p in every for s in p.scores) / len(records)
    rule_scores = await _lexical_bytes(config, records)
    model, coders = _weights_mib(config.model), _coder_weights_mib(config)
    return Plan(
        evidence=evidence, n_features=n_features, explain=explain, score=score, control=control + probe,
        usd=_price(total, assumed),
        answer_seconds=_answer_seconds(config, total, assumed),
        ram_mib=_sum(PROCESS_MIB + 2 * config.cache.buffer_mib, None if _on_gpu(config) else _sum(model, coders), 0),
        vram_mib=_sum(model, coders) if _on_gpu(config) else 0.0,
        cache_mib=config.data.n_tokens * _active_per_token(config, modules) * BYTES_PER_ACTIVATION / MIB,
        results_mib=(n_features * (stored + rule_scores) + (n_features + n_controls) * scores) / MIB,
    )  # fmt: skip


async def _lexical_bytes(config: RunConfig, records: Sequence[FeatureRecord]) -> float:
    """What the lexical baseline stores of a feature; it asks nothing."""
    if not has_lexical_baseline(config):
        return 0.0
    found = await planned(lexical_only(config), records)
    return sum(len(encode_score(s)) for each in found.values() for p in each for s in p.scores) / len(records)


def _scaled(asked: Iterable[Asked], factor: float) -> Asked:
    total = sum(asked, Asked())
    return Asked(
        round(total.n_requests * factor),
        round(total.prompt_characters * factor),
        round(total.completion_characters * factor),
    )


def _n_modules(config: RunConfig) -> int:
    """One for each entry whose modules are not named: most files hold one."""
    return sum(len(coder.module_paths or ("",)) for coder in config.autoencoders)


def _n_features(config: RunConfig, modules: int) -> tuple[int, int]:
    """Features, and those of them that get a shuffled control; all find enough examples."""
    per_module = _features_per_module(config, modules)
    limit = config.n_shuffled
    controls = [n if limit is None else min(n, limit) for n in per_module if n > 1]
    return sum(per_module), sum(controls)


def _n_probed(config: RunConfig, modules: int) -> int:
    """Features whose questions are also put with the explanation hidden."""
    limit = config.n_hidden
    return sum(n if limit is None else min(n, limit) for n in _features_per_module(config, modules))


def _features_per_module(config: RunConfig, modules: int) -> list[int]:
    if config.features.indices is not None:
        return [len(set(indices)) for indices in config.features.indices.values()]
    return [config.features.n_features] * modules


def _price(usage: Usage, assumed: Assumptions) -> float | None:
    prompt, completion = assumed.usd_per_million_prompt_tokens, assumed.usd_per_million_completion_tokens
    if prompt is None or completion is None:
        return None
    return (usage.prompt_tokens * prompt + usage.completion_tokens * completion) / 1e6


def _answer_seconds(config: RunConfig, usage: Usage, assumed: Assumptions) -> float:
    limit = config.for_scoring.max_concurrency if config.for_scoring else 1
    return usage.n_requests * assumed.seconds_per_answer / limit


def _on_gpu(config: RunConfig) -> bool:
    from sae_auto_interp.models.placement import uses_gpu

    return uses_gpu(config.device)


def _active_per_token(config: RunConfig, modules: int) -> int:
    known = [coder.k for coder in config.autoencoders if not isinstance(coder, AutoencoderConfig) and coder.k]
    return sum(known) + ACTIVE_PER_TOKEN * (modules - len(known))


def _coder_weights_mib(config: RunConfig) -> float | None:
    total: float | None = 0.0
    for coder in config.autoencoders:
        if isinstance(coder, AutoencoderConfig):
            total = _sum(total, _weights_mib(coder.path))
    return total


def _weights_mib(reference: str) -> float | None:
    """Size of the weights in a local directory or file; None for what is on the hub."""
    path = Path(resolve_path(reference))
    if not path.exists():
        return None
    files = [path] if path.is_file() else [file for pattern in WEIGHT_FILES for file in path.rglob(pattern)]
    return sum(file.stat().st_size for file in files) / MIB


def _sum(*sizes: float | None) -> float | None:
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None
