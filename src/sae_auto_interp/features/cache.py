"""FeatureCache: run the subject model over token rows and stream what its autoencoders find to disk.

    cache = FeatureCache(model, submodule_dict, batch_size=128, filters=filters)
    cache.run(n_tokens=15_000_000, tokens=tokens)
    cache.save_splits(n_splits=4, save_dir="raw_features")

The forward pass stops after the deepest hooked module, each module's activations are encoded one after the other,
and only the entries above zero leave the encoder. Nothing but the token rows grows with the number of tokens.
"""

import hashlib
import json
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae_auto_interp.autoencoders.attach import attached_coder, torch_module
from sae_auto_interp.autoencoders.sparse_coder import SparseCoder
from sae_auto_interp.cache.layout import FORMAT_VERSION, MANIFEST, clear_cache, shard_ranges, write_text
from sae_auto_interp.cache.merge import merge_runs
from sae_auto_interp.cache.spool import Spool
from sae_auto_interp.errors import InputError, WeightsError
from sae_auto_interp.features.config import CacheOptions
from sae_auto_interp.features.token_input import attention_mask, budgeted, either_order, kept_features, token_rows
from sae_auto_interp.features.vocabulary import Vocabulary
from sae_auto_interp.models.capture import Side, capture
from sae_auto_interp.models.identity import (
    check_token_ids,
    model_name,
    model_settings,
    sampled_sha256,
    weights_sha256,
)
from sae_auto_interp.protocols import Progress
from sae_auto_interp.types import NO_DOCUMENT, CacheManifest, TokenRows

MIB = 1 << 20


class FeatureCache:
    """Caches the activations of every autoencoder in `submodule_dict`.

    `model` is wrapped by NNsight; `submodule_dict` is what a `load_*_autoencoders` function returned.
    `batch_size` is rows per forward pass. `filters` gives {module path: feature indices to keep}; a
    module that it does not name is kept whole. Raises `InputError` for a filter of another module or width.
    """

    def __init__(
        self,
        model: Any,
        submodule_dict: Mapping[str, Any],
        batch_size: int = 32,
        filters: Mapping[str, Any] | None = None,
        *,
        options: CacheOptions | None = None,
        progress: Progress | None = None,
    ) -> None:
        if not submodule_dict:
            raise InputError("FeatureCache: no autoencoder is attached; submodule_dict is empty")
        if batch_size < 1:
            raise InputError(f"FeatureCache: batch_size={batch_size}; give at least 1")
        self._model = model
        self._torch_model = torch_module(model)
        self.coders: dict[str, SparseCoder] = {path: attached_coder(handle) for path, handle in submodule_dict.items()}
        self.batch_size = batch_size
        self._kept = kept_features({path: coder.width for path, coder in self.coders.items()}, filters or {})
        self._options = options or CacheOptions()
        self._progress = progress
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
        fingerprint = self.fingerprint(rows)
        widths = {path: coder.width for path, coder in self.coders.items()}
        spool = Spool(
            self._work_dir(),
            widths,
            n_positions=rows.tokens.size,
            dtype=self._options.activation_dtype,
            max_bytes=self._options.buffer_mib * MIB,
            fingerprint=fingerprint,
        )
        self._stream(rows, spool)
        self._work = _Work(rows, spool, fingerprint)

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
        tokenizer = getattr(self._model, "tokenizer", None)
        if tokenizer is not None:
            root.mkdir(parents=True, exist_ok=True)
            Vocabulary.from_tokenizer(tokenizer).save(root)
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
        facts = {
            "format": FORMAT_VERSION,
            "activation_dtype": self._options.activation_dtype,
            "kept": {path: features.tolist() for path, features in self._kept.items()},
            "coders": [[path, _encoding_settings(coder), self._weights[path]] for path, coder in self.coders.items()],
            "model": [model_settings(self._torch_model), sampled_sha256(self._torch_model)],
            "shape": rows.tokens.shape,
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
        for array in (rows.tokens, rows.documents):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def _work_dir(self) -> Path:
        """The caller's directory, or a new temporary one that goes with this object."""
        if self._options.work_dir is not None:
            return self._options.work_dir
        self.discard_work()
        folder = Path(tempfile.mkdtemp(prefix="sae-auto-interp-"))
        self._discard_temporary = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _stream(self, rows: TokenRows, spool: Spool) -> None:
        if self._progress is not None:
            self._progress.start("cache", rows.n_rows * rows.ctx_len, spool.rows_done * rows.ctx_len, "tokens")
        for first in range(spool.rows_done, rows.n_rows, self.batch_size):
            last = min(first + self.batch_size, rows.n_rows)
            self._cache_batch(rows, first, last, spool)
            spool.commit(last, last=last == rows.n_rows)
            if self._progress is not None:
                self._progress.advance((last - first) * rows.ctx_len)
        if self._progress is not None:
            self._progress.finish()

    @torch.inference_mode()
    def _cache_batch(self, rows: TokenRows, first: int, last: int, spool: Spool) -> None:
        """Rows `first` to `last` (exclusive) of every module into the spool; padding and BOS are never encoded."""
        documents, device = rows.documents[first:last], self._device()
        is_text = torch.from_numpy(documents != NO_DOCUMENT)
        locations = np.flatnonzero(is_text.numpy()) + first * rows.ctx_len
        if len(locations) == 0:
            return
        tokens = torch.from_numpy(rows.tokens[first:last]).long().to(device)
        mask = torch.from_numpy(attention_mask(documents)).to(device)
        sites: dict[str, Side] = {path: coder.settings.side for path, coder in self.coders.items()}
        activations = capture(self._torch_model, sites, tokens, mask)
        for path, coder in self.coders.items():
            x = activations.pop(path)
            x = x[is_text.to(x.device)]
            _check_activations(x, path, coder)
            code = coder.encode(x)
            kept = self._is_kept[path][code.features] if path in self._is_kept else slice(None)
            spool.append(
                path,
                code.features[kept].cpu().numpy(),
                locations[code.positions[kept].cpu().numpy()],
                code.values[kept].cpu().numpy(),
            )

    @cached_property
    def _is_kept(self) -> dict[str, Bool[Tensor, " width"]]:
        """Of each filtered module, one mark per feature, where its coder is."""
        masks: dict[str, Tensor] = {}
        for path, features in self._kept.items():
            mask = torch.zeros(self.coders[path].width, dtype=torch.bool)
            mask[torch.from_numpy(features)] = True
            masks[path] = mask.to(self.coders[path].w_enc.device)
        return masks

    @cached_property
    def _weights(self) -> dict[str, str]:
        """Checksum of every coder's weights: once, however many modules and manifests there are."""
        return {path: weights_sha256(coder) for path, coder in self.coders.items()}

    def _finish_module(
        self, path: str, ranges: Sequence[tuple[int, int]], work: "_Work", directory: Path
    ) -> CacheManifest:
        clear_cache(directory)
        shards = merge_runs(work.spool.run_files(path), directory, ranges)
        coder = self.coders[path]
        manifest = CacheManifest(
            format_version=FORMAT_VERSION,
            module_path=path,
            model=model_name(self._torch_model),
            autoencoder=f"{coder.settings.family}:{Path(coder.settings.source).name}",
            weights_sha256=self._weights[path],
            data=self._options.data_name,
            n_rows=work.rows.n_rows,
            ctx_len=work.rows.ctx_len,
            width=coder.width,
            activation_dtype=self._options.activation_dtype,
            location_dtype=str(work.spool.location_dtype),
            shards=shards,
            fingerprint=work.fingerprint,
        )
        write_text(directory / MANIFEST, manifest.to_json())
        return manifest

    def _device(self) -> torch.device:
        return next(self._torch_model.parameters()).device


@dataclass(frozen=True, slots=True)
class _Work:
    """What a finished `run` leaves to `save_splits`."""

    rows: TokenRows
    spool: Spool
    fingerprint: str


def _check_activations(x: Float[Tensor, "n d"], path: str, coder: SparseCoder) -> None:
    if x.shape[-1] != coder.d_in:
        raise WeightsError(
            f"the autoencoder at {path} reads {coder.d_in} dimensions, but the module gives {x.shape[-1]}"
        )
    if not bool(torch.isfinite(x).all()):
        raise InputError(f"{path} gives NaN or infinite activations; load the subject model in float32 or bfloat16")


def _encoding_settings(coder: SparseCoder) -> dict[str, Any]:
    """What decides the codes, and not what the weights are called."""
    return {name: value for name, value in asdict(coder.settings).items() if name not in ("family", "source")}
