"""What a run will take of disk and memory.

Disk is the cache (tokens, and what each activation takes) and the results. A finished cache has the size that it has.
Before, what fires per token is measured (`plan_measured`), or known of coders that the run file makes with a k, or
assumed. Memory is that of the process with the model in it, measured or by the size of the weights' files, and of the
cache's buffers. Assumed and unmeasured figures are rough.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sae_auto_interp.cache.threads import N_THREADS
from sae_auto_interp.config import AutoencoderConfig, RunConfig, resolve_path
from sae_auto_interp.features.batch_size import bytes_per_row, rows_per_batch
from sae_auto_interp.pipeline.plan_measured import MIB, Measured
from sae_auto_interp.pipeline.planning.records import n_modules
from sae_auto_interp.pipeline.run_directory import RunDirectory

BYTES_PER_ACTIVATION = 6
"""Of the cache, offsets and statistics included (docs/benchmarks.md)."""
BYTES_PER_TOKEN = 8
"""The token and its document, in rows that are a little longer than their text."""
ACTIVE_PER_TOKEN = 64
"""Assumed where nothing says how many features of an autoencoder fire."""
PROCESS_MIB = 550
"""Interpreter, torch and transformers, on the processor."""
WORK_MIB = 60
"""Of a batch on its way through the model, and of features on theirs through explaining and scoring."""
MERGE_MIB_PER_THREAD, MERGE_SHARE_OF_CACHE = 50, 8
"""Of a chunk of a million entries on its way into a shard; a small cache has no such chunk."""
REPORT_BYTES, REPORT_BYTES_PER_SCORE = 60_000, 7_700
"""Of its page and the files beside it."""
SHARE_OF_SQLITE = 1.15
"""Of the results beyond what is stored: pages that are not full, indices, and who spent what."""
BYTES_PER_ANSWER = 200
"""In the cache of answers, a list of verdicts without log-probabilities."""
WEIGHT_FILES = ("*.safetensors", "*.bin", "*.npz", "*.pt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """In MiB; None where nothing local tells."""

    ram: float | None
    vram: float | None
    cache: float
    """Of tokens and activations, in the run directory."""
    results: float
    """Of records, explanations, scores and the page, in the run directory."""
    answers: float
    """Of the language model's answers, in the cache that all runs share."""
    basis: str
    """What the size of the cache and the memory go by, in words."""


def planned_sizes(
    config: RunConfig,
    root: Path | None,
    n_scores: int,
    stored_bytes: float,
    n_requests: int,
    measured: Measured | None,
) -> Sizes:
    """`stored_bytes`: of all records and scores, as they are encoded."""
    cache, basis = _cache_mib(config, root, measured)
    model, coders = _weights_mib(config.model), _coder_weights_mib(config)
    on_gpu, report = _on_gpu(config), REPORT_BYTES + REPORT_BYTES_PER_SCORE * n_scores
    process = None if measured is None else measured.peak_mib
    if process is None:
        process = _sum(PROCESS_MIB, 0 if on_gpu else _sum(model, coders))
    return Sizes(
        ram=_sum(process, max(2 * config.cache.buffer_mib, _merge_mib(cache)), WORK_MIB),
        vram=_sum(model, coders, _gpu_work_mib(config)) if on_gpu else 0.0,
        cache=cache,
        results=(SHARE_OF_SQLITE * stored_bytes + report) / MIB,
        answers=0.0 if config.responses.mode == "off" else n_requests * BYTES_PER_ANSWER / MIB,
        basis=basis,
    )


def _merge_mib(cache: float) -> float:
    """Of the shards that are made at a time; the buffers are empty by then."""
    return min(MERGE_MIB_PER_THREAD * N_THREADS, MERGE_SHARE_OF_CACHE * cache)


def _gpu_work_mib(config: RunConfig) -> float:
    """Of a batch in the model's forward pass and of a block of pre-activations, at most."""
    from sae_auto_interp.autoencoders.encoding.encoder import BLOCK_ENTRIES_ON_DEVICE

    ctx_len = config.data.ctx_len
    settings = _model_settings(config.model)
    rows = config.cache.batch_size or rows_per_batch(settings, ctx_len, "cuda")
    return (rows * bytes_per_row(settings, ctx_len) + 4 * BLOCK_ENTRIES_ON_DEVICE) / MIB


def _model_settings(reference: str) -> Any:
    """Of a model in a local directory; None for one on the hub, which is then taken for a small one."""
    from transformers import AutoConfig

    path, config = Path(resolve_path(reference)), cast(Any, AutoConfig)
    return config.from_pretrained(path) if (path / "config.json").is_file() else None


def _cache_mib(config: RunConfig, root: Path | None, measured: Measured | None) -> tuple[float, str]:
    """The size, and what it goes by."""
    directory = None if root is None else RunDirectory(root)
    if directory is not None and (directory.features / "manifest.json").is_file():
        files = [directory.tokens, *directory.features.rglob("*")]
        return _size_mib(file for file in files if file.is_file()), "the finished cache"
    active, basis = _assumed_active(config) if measured is None else (measured.active_per_token, "what was measured")
    n_bytes = config.data.n_tokens * (active * BYTES_PER_ACTIVATION + BYTES_PER_TOKEN)
    return n_bytes / MIB, basis


def _assumed_active(config: RunConfig) -> tuple[float, str]:
    known = [coder.k for coder in config.autoencoders if not isinstance(coder, AutoencoderConfig) and coder.k]
    n_unknown = n_modules(config) - len(known)
    guessed = f"{ACTIVE_PER_TOKEN} features per token of each autoencoder assumed (rough: --measure loads and counts)"
    return sum(known) + ACTIVE_PER_TOKEN * n_unknown, guessed if n_unknown else "the run file's k"


def _on_gpu(config: RunConfig) -> bool:
    from sae_auto_interp.models.placement import uses_gpu

    return uses_gpu(config.device)


def _coder_weights_mib(config: RunConfig) -> float | None:
    return _sum(*(_weights_mib(each.path) for each in config.autoencoders if isinstance(each, AutoencoderConfig)))


def _weights_mib(reference: str) -> float | None:
    """Size of the weights in a local directory or file; None for what is on the hub."""
    path = Path(resolve_path(reference))
    if not path.exists():
        return None
    return _size_mib([path] if path.is_file() else (f for pattern in WEIGHT_FILES for f in path.rglob(pattern)))


def _size_mib(files: Iterable[Path]) -> float:
    return sum(file.stat().st_size for file in files) / MIB


def _sum(*sizes: float | None) -> float | None:
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None
