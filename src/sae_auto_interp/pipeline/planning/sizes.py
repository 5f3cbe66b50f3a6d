"""What a run will take of disk and memory.

Disk is the cache (tokens, and what each activation takes) and the results. A finished cache has the size that it has.
Before, what fires per token is measured (`plan_measured`), or known of coders that the run file makes with a k, or
assumed. Memory is that of the process with the model in it, measured or by the size of the weights' files, and of the
cache's buffers. Assumed and unmeasured figures are rough.

What a plan need not guess where the subject model and its autoencoders may be loaded: `plan --measure`.

They are loaded and checked as a run does it first (`check`), on a few thousand tokens. How many features fire per
token decides how large the cache becomes, and most of a run's memory is in use by then.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae_auto_interp.cache.threads import N_THREADS
from sae_auto_interp.config import AutoencoderConfig, resolve_path
from sae_auto_interp.errors import PreflightError
from sae_auto_interp.features.caching.code_stream import bytes_per_row, rows_per_batch
from sae_auto_interp.pipeline.commands.check import run_check
from sae_auto_interp.pipeline.resolved import Inputs, Subject
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.protocols import Progress
from sae_auto_interp.types.fit import Preflight

MIB = 2**20


STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Measured:
    """Measurements of all autoencoders of a run file together."""

    active_per_token: float
    """Entries of the cache for each token of text."""
    peak_mib: float | None
    """Most memory that this process had so far; None where the system does not tell."""


def measured(inputs: Inputs, progress: Progress) -> Measured:
    """Load and check. Raises what a run would raise for what cannot be loaded; what does not fit is not judged here."""
    active = active_of(run_check(inputs, progress))
    if active is None:
        raise PreflightError(["the autoencoders cannot be measured; see what `sae-auto-interp check` says of them"])
    return Measured(active, peak_mib())


def active_of(checks: Sequence[Preflight]) -> float | None:
    """Entries per token of all autoencoders; None where one was not measured."""
    found = [None if check.figures is None else check.figures.l0 for check in checks]
    known = [l0 for l0 in found if l0 is not None]
    return sum(known) if known and len(known) == len(found) else None


def peak_mib() -> float | None:
    """Resident memory of this process at its most; None where the system does not tell (Windows).

    Linux's `ru_maxrss` is never less than what the parent held when it started this process: a notebook's would be
    taken for the run's. The kernel's status file is about this program alone.
    """
    status = STATUS.read_text() if STATUS.is_file() else ""
    found = re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)
    if found:
        return int(found[1]) / 1024
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / MIB if sys.platform == "darwin" else most / 1024


BYTES_PER_ACTIVATION = 6
"""Bytes of the cache per activation, offsets and statistics included (docs/benchmarks.md)."""


BYTES_PER_TOKEN = 8
"""The token and its document, in rows that are a little longer than their text."""


ACTIVE_PER_TOKEN = 64
"""Assumed where nothing says how many features of an autoencoder fire."""


PROCESS_MIB = 550
"""Interpreter, torch and transformers, on the processor."""


WORK_MIB = 60
"""Memory of a batch on its way through the model, and of features on theirs through explaining and scoring."""


MERGE_MIB_PER_THREAD, MERGE_SHARE_OF_CACHE = 50, 8
"""Memory of a chunk of a million entries on its way into a shard; a small cache has no such chunk."""


REPORT_BYTES, REPORT_BYTES_PER_SCORE = 60_000, 7_700
"""Bytes of the report page and the files beside it."""


SHARE_OF_SQLITE = 1.15
"""Size of the results over the bytes stored: pages that are not full, indices, and spending."""


BYTES_PER_ANSWER = 200
"""In the cache of answers, a list of verdicts without log-probabilities."""


WEIGHT_FILES = ("*.safetensors", "*.bin", "*.npz", "*.pt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """In MiB; None where nothing local tells."""

    ram: float | None
    vram: float | None
    cache: float
    """Tokens and activations, in the run directory."""
    results: float
    """Records, explanations, scores and the page, in the run directory."""
    answers: float
    """The language model's answers, in the cache that all runs share."""
    basis: str
    """What the size of the cache and the memory go by, in words."""


def planned_sizes(
    inputs: Inputs,
    root: Path | None,
    n_scores: int,
    stored_bytes: float,
    n_kept_responses: int,
    measured: Measured | None,
) -> Sizes:
    """`stored_bytes`: of all records and scores, as they are encoded."""
    cache, basis = _cache_mib(inputs, root, measured)
    model, coders = _weights_mib(inputs.subject.model), _coder_weights_mib(inputs.subject)
    on_gpu, report = _on_gpu(inputs.subject), REPORT_BYTES + REPORT_BYTES_PER_SCORE * n_scores
    process = None if measured is None else measured.peak_mib
    if process is None:
        process = _sum(PROCESS_MIB, 0 if on_gpu else _sum(model, coders))
    return Sizes(
        ram=_sum(process, max(2 * inputs.caching.cache.buffer_mib, _merge_mib(cache)), WORK_MIB),
        vram=_sum(model, coders, _gpu_work_mib(inputs)) if on_gpu else 0.0,
        cache=cache,
        results=(SHARE_OF_SQLITE * stored_bytes + report) / MIB,
        answers=n_kept_responses * BYTES_PER_ANSWER / MIB,
        basis=basis,
    )


def _merge_mib(cache: float) -> float:
    """Return the memory of the shards made at a time; the buffers are empty by then."""
    return min(MERGE_MIB_PER_THREAD * N_THREADS, MERGE_SHARE_OF_CACHE * cache)


def _gpu_work_mib(inputs: Inputs) -> float:
    """Return the most memory of a batch in the forward pass and of a block of pre-activations."""
    from sae_auto_interp.autoencoders.encoding.encoder import BLOCK_ENTRIES_ON_DEVICE

    ctx_len = inputs.text.data.ctx_len
    settings = _model_settings(inputs.subject.model)
    rows = inputs.caching.cache.batch_size or rows_per_batch(settings, ctx_len, "cuda")
    return (rows * bytes_per_row(settings, ctx_len) + 4 * BLOCK_ENTRIES_ON_DEVICE) / MIB


def _model_settings(reference: str) -> Any:
    """Return the settings of a model in a local directory; None for one on the hub, which is taken for a small one."""
    from sae_auto_interp.model_loading.pretrained import load_config

    path = Path(resolve_path(reference))
    return load_config("the subject model", str(path)) if (path / "config.json").is_file() else None


def _cache_mib(inputs: Inputs, root: Path | None, measured: Measured | None) -> tuple[float, str]:
    """The size, and what it goes by."""
    directory = None if root is None else RunDirectory(root)
    if directory is not None and (directory.features / "manifest.json").is_file():
        files = [directory.tokens, *directory.features.rglob("*")]
        return _size_mib(file for file in files if file.is_file()), "the finished cache"
    active, basis = (
        _assumed_active(inputs.subject) if measured is None else (measured.active_per_token, "what was measured")
    )
    n_bytes = inputs.text.data.n_tokens * (active * BYTES_PER_ACTIVATION + BYTES_PER_TOKEN)
    return n_bytes / MIB, basis


def _assumed_active(subject: Subject) -> tuple[float, str]:
    known = [coder.k for coder in subject.autoencoders if not isinstance(coder, AutoencoderConfig) and coder.k]
    n_unknown = subject.n_modules - len(known)
    guessed = f"{ACTIVE_PER_TOKEN} features per token of each autoencoder assumed (rough: --measure loads and counts)"
    return sum(known) + ACTIVE_PER_TOKEN * n_unknown, guessed if n_unknown else "the run file's k"


def _on_gpu(subject: Subject) -> bool:
    from sae_auto_interp.models.placement import uses_gpu

    return uses_gpu(subject.device)


def _coder_weights_mib(subject: Subject) -> float | None:
    return _sum(*(_weights_mib(each.path) for each in subject.autoencoders if isinstance(each, AutoencoderConfig)))


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
