"""FeatureCache: run the subject model over token rows and stream what its autoencoders find to disk.

    cache = FeatureCache(model, submodule_dict, batch_size=128, filters=filters)
    cache.run(n_tokens=15_000_000, tokens=tokens)
    cache.save_splits(n_splits=4, save_dir="raw_features")

The forward pass stops after the deepest module, each module's activations are encoded while the pass stands at it (see
`code_stream`), and only the entries above zero leave the encoder. Nothing but the token rows grows with their number.
"""

import hashlib
import json
import logging
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from sae_auto_interp.autoencoders.attach import attached_coder
from sae_auto_interp.autoencoders.coder import Coder
from sae_auto_interp.cache.fingerprints import cache_fingerprint, rows_hash
from sae_auto_interp.cache.layout import FORMAT_VERSION, MANIFEST, shard_ranges
from sae_auto_interp.cache.merge import merge_into_cache
from sae_auto_interp.cache.write_buffer import WriteBuffer
from sae_auto_interp.errors import InputError
from sae_auto_interp.features.caching.background import Background
from sae_auto_interp.features.caching.code_stream import CodeStream, PendingBatch, rows_per_batch
from sae_auto_interp.features.caching.outlier_norms import NormLimits, norm_limits
from sae_auto_interp.features.config import CacheOptions
from sae_auto_interp.features.token_input import budgeted, either_order, kept_features, token_rows
from sae_auto_interp.features.vocabulary import Vocabulary
from sae_auto_interp.model_loading.positions import beyond_positions, position_limit
from sae_auto_interp.models.identity import (
    check_token_ids,
    model_name,
    model_settings,
    model_source,
    sampled_sha256,
    weights_sha256,
)
from sae_auto_interp.models.placement import torch_model
from sae_auto_interp.protocols import Progress
from sae_auto_interp.types import CacheManifest, TokenRows
from sae_auto_interp.types.fit import SIGNED

logger = logging.getLogger(__name__)

MIB = 1 << 20


class FeatureCache:
    """Caches the activations of every autoencoder in `submodule_dict`.

    `model` is a torch model or one that NNsight wraps; `submodule_dict` is what a `load_*_autoencoders` function
    returned. `batch_size` is rows per forward pass; None takes as many as fit a modest amount of memory. `filters`
    gives {module path: feature indices to keep}; a module that it does not name is kept whole. Raises `InputError` for
    a filter of another module or width.
    """

    def __init__(
        self,
        model: Any,
        submodule_dict: Mapping[str, Any],
        batch_size: int | None = None,
        filters: Mapping[str, Any] | None = None,
        *,
        options: CacheOptions | None = None,
        progress: Progress | None = None,
    ) -> None:
        if not submodule_dict:
            raise InputError("FeatureCache: no autoencoder is attached; submodule_dict is empty")
        if batch_size is not None and batch_size < 1:
            raise InputError(f"FeatureCache: batch_size={batch_size}; give at least 1")
        self._model = model
        self._torch_model = torch_model(model)
        self.coders: dict[str, Coder] = {path: attached_coder(handle) for path, handle in submodule_dict.items()}
        self.batch_size = batch_size
        self._kept = kept_features({path: coder.width for path, coder in self.coders.items()}, filters or {})
        self._options = options or CacheOptions()
        self._progress = progress
        for path, coder in self.coders.items():
            if coder.settings.is_signed:
                logger.warning("%s: %s", path, SIGNED)
        self._work: _Work | None = None
        self._discard_temporary: Callable[[], object] = lambda: None

    def run(self, *positional: Any, n_tokens: int | None = None, tokens: Any = None) -> None:
        """Run the model over `tokens` ([rows, ctx_len] ids, or `TokenRows`), at most `n_tokens` of them.

        Both may also be positional, in either order. Whole rows are used: n_tokens // ctx_len of them,
        whatever the batch size. Work that an earlier, interrupted run left in `work_dir` is not repeated.
        """
        self._work = None
        n_tokens, tokens = either_order(positional, n_tokens, tokens)
        rows = budgeted(token_rows(tokens), n_tokens)
        check_token_ids(self._torch_model, rows.tokens)
        warning = beyond_positions(position_limit(self._torch_model), rows.ctx_len, "tokens per row")
        if warning is not None:
            logger.warning(warning)
        tokenizer = getattr(self._model, "tokenizer", None)
        vocabulary = None if tokenizer is None else Vocabulary.from_tokenizer(tokenizer)  # before anything is computed
        rows_digest = rows_hash(rows.tokens, rows.documents)
        work_dir = self._work_dir()
        limits = self._limits(rows, rows_digest, work_dir)
        configuration = self._configuration(limits)
        fingerprint = cache_fingerprint(configuration, rows_digest, rows.n_rows, rows.ctx_len)
        widths = {path: coder.width for path, coder in self.coders.items()}
        spool = WriteBuffer(
            work_dir,
            widths if limits is None else widths | {_masked(path): 1 for path in limits.medians},
            n_positions=rows.tokens.size,
            dtype=self._options.activation_dtype,
            max_bytes=self._options.buffer_mib * MIB,
            fingerprint=fingerprint,
        )
        self._stream(rows, spool, limits)
        self._work = _Work(rows, spool, fingerprint, configuration, rows_digest, limits, vocabulary)

    def save_splits(self, n_splits: int = 4, save_dir: str | Path = "raw_features") -> dict[str, CacheManifest]:
        """Write `save_dir/{module path}/{first}_{last}.safetensors`, split over the width; returns the manifests.

        Also writes the vocabulary's strings when the model has a tokenizer, so that records can be read as text. An
        older cache of the same module in `save_dir` is replaced. Without a `work_dir` of your own the temporary work
        is deleted afterwards: to save again, run again.
        """
        if self._work is None:
            raise InputError("FeatureCache: call run(...) before save_splits(...)")
        root = Path(save_dir)
        ranges = {path: shard_ranges(coder.width, n_splits) for path, coder in self.coders.items()}
        if self._work.vocabulary is not None:
            root.mkdir(parents=True, exist_ok=True)
            self._work.vocabulary.save(root)
        for path in self.coders:  # a kill from here on must not leave an old module beside a new one
            (root / path / MANIFEST).unlink(missing_ok=True)
        manifests = {path: self._finish_module(path, ranges[path], self._work, root / path) for path in self.coders}
        if self._options.work_dir is None:
            self.discard_work()
        return manifests

    def discard_work(self) -> None:
        """Delete the half-finished work in `work_dir`; for callers that gave one, once they noted that all is done."""
        self._work = None
        if self._options.work_dir is not None:
            shutil.rmtree(self._options.work_dir, ignore_errors=True)
        self._discard_temporary()

    def fingerprint(self, rows: TokenRows) -> str:
        """Hash of everything that decides what a finished cache holds; of the subject model's weights, a sample."""
        rows_digest = rows_hash(rows.tokens, rows.documents)
        configuration = self._configuration(self._limits(rows, rows_digest, None))
        return cache_fingerprint(configuration, rows_digest, rows.n_rows, rows.ctx_len)

    def _limits(self, rows: TokenRows, rows_digest: str, work_dir: Path | None) -> NormLimits | None:
        """The norms beyond which positions are masked: what an interrupted run in `work_dir` went by goes on."""
        options = self._options
        if options.max_norm_multiple is None:
            return None
        whose = cache_fingerprint(self._configuration(None), rows_digest, rows.n_rows, rows.ctx_len)
        given, multiple = options.median_norms, options.max_norm_multiple
        return norm_limits(multiple, given, self._model, self.coders, rows, options.backend, work_dir, whose)

    def _configuration(self, limits: NormLimits | None) -> str:
        """Hash of what decides what is found in given rows."""
        facts: dict[str, Any] = {
            "format": FORMAT_VERSION,
            "activation_dtype": self._options.activation_dtype,
            "kept": {path: features.tolist() for path, features in self._kept.items()},
            "coders": [[path, coder.encoding_facts(), self._weights[path]] for path, coder in self.coders.items()],
            "model": [model_settings(self._torch_model), sampled_sha256(self._torch_model)],
        }
        if limits is not None:
            facts["norm_mask"] = asdict(limits)
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()

    def _work_dir(self) -> Path:
        """The caller's directory, or a new temporary one that goes with this object."""
        if self._options.work_dir is not None:
            return self._options.work_dir
        self.discard_work()
        folder = Path(tempfile.mkdtemp(prefix="sae-auto-interp-"))
        self._discard_temporary = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _stream(self, rows: TokenRows, spool: WriteBuffer, limits: NormLimits | None) -> None:
        if self._progress is not None:
            self._progress.start("cache", rows.n_rows * rows.ctx_len, spool.rows_done * rows.ctx_len, "tokens")
        stream = CodeStream(self._model, self.coders, self._kept, self._options.backend, limits)
        size = self.batch_size or rows_per_batch(_config_of(self._torch_model), rows.ctx_len, stream.device_type)

        def store(batch: tuple[int, PendingBatch]) -> None:
            self._store(*batch, rows, spool)

        with Background(store, stream.batches_ahead(size * rows.ctx_len)) as stored:
            for first in range(spool.rows_done, rows.n_rows, size):
                last = min(first + size, rows.n_rows)
                stored.put((last, stream.begin(rows, first, last)))
        if self._progress is not None:
            self._progress.finish()

    def _store(self, last: int, batch: PendingBatch, rows: TokenRows, spool: WriteBuffer) -> None:
        """Put what a batch found into the spool; all rows up to `last` are then done."""
        for found in batch.entries():
            spool.append(found.module_path, found.features, found.locations, found.activations)
            if len(found.masked):
                ones = np.ones(len(found.masked), np.float32)
                spool.append(_masked(found.module_path), np.zeros(len(found.masked), np.int64), found.masked, ones)
        spool.commit(last, last=last == rows.n_rows)
        if self._progress is not None:
            self._progress.advance(batch.n_rows * rows.ctx_len)

    @cached_property
    def _weights(self) -> dict[str, str]:
        """Checksum of every coder's weights: once, however many modules and manifests there are."""
        return {path: weights_sha256(coder) for path, coder in self.coders.items()}

    def _finish_module(
        self, path: str, ranges: Sequence[tuple[int, int]], work: "_Work", directory: Path
    ) -> CacheManifest:
        coder = self.coders[path]
        description = CacheManifest(
            format_version=FORMAT_VERSION,
            module_path=path,
            model=model_name(self._torch_model),
            autoencoder=f"{coder.settings.family}:{coder.settings.source_name}",
            weights_sha256=self._weights[path],
            data=self._options.data_name,
            n_rows=work.rows.n_rows,
            ctx_len=work.rows.ctx_len,
            width=coder.width,
            activation_dtype=self._options.activation_dtype,
            location_dtype=str(work.spool.location_dtype),
            shards=(),
            fingerprint=work.fingerprint,
            configuration=work.configuration,
            rows=work.rows_digest,
            norm_mask=None if work.limits is None else work.limits.mask(path),
            autoencoder_source=coder.settings.hub_source,
            model_source=model_source(self._torch_model),
        )
        masked = None if work.limits is None or path not in work.limits else work.spool.locations(_masked(path), 0)
        return merge_into_cache(work.spool.sources(path), directory, ranges, description, masked)


@dataclass(frozen=True, slots=True)
class _Work:
    """What a finished `run` leaves to `save_splits`."""

    rows: TokenRows
    spool: WriteBuffer
    fingerprint: str
    configuration: str
    rows_digest: str
    limits: NormLimits | None
    vocabulary: Vocabulary | None


def _masked(path: str) -> str:
    """What the spool calls the masked positions of a module: they are kept as the entries of one feature."""
    return f"{path} masked"


def _config_of(model: nn.Module) -> Any:
    return getattr(model, "config", None)
