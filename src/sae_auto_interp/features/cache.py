"""FeatureCache: run the subject model over token rows and stream what its autoencoders find to disk.

    cache = FeatureCache(model, submodule_dict, batch_size=128, filters=filters)
    cache.run(n_tokens=15_000_000, tokens=tokens)
    cache.save_splits(n_splits=4, save_dir="raw_features")

The forward pass stops after the deepest hooked module, each module's activations are encoded one after the other,
and only the entries above zero leave the encoder. Nothing grows with the number of tokens.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from sae_auto_interp.autoencoders.attach import attached_coder, torch_module
from sae_auto_interp.autoencoders.sparse_coder import SparseCoder
from sae_auto_interp.cache.layout import FORMAT_VERSION, MANIFEST, shard_ranges, write_text
from sae_auto_interp.cache.merge import merge_runs
from sae_auto_interp.cache.spool import Spool
from sae_auto_interp.errors import InputError, UnknownNameError
from sae_auto_interp.features.vocabulary import Vocabulary
from sae_auto_interp.models.capture import capture
from sae_auto_interp.protocols import Progress
from sae_auto_interp.types import NO_DOCUMENT, CacheManifest, TokenRows

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheOptions:
    """How to cache; none of these but `activation_dtype` changes what is found."""

    activation_dtype: str = "float16"
    """Type of the stored values: float16 or float32."""
    buffer_mib: int = 256
    """Memory for activations waiting to be spilled."""
    work_dir: Path | None = None
    """Where half-finished work is kept, so that a killed run resumes; None uses a temporary directory."""
    data_name: str = "tokens"
    """What the manifest calls the text."""


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
        self._kept = _kept_features(self.coders, filters or {})
        self._options = options or CacheOptions()
        self._progress = progress
        self._own_folder = self._options.work_dir is None
        self._work_dir = self._options.work_dir or Path(tempfile.mkdtemp(prefix="sae-auto-interp-"))
        self._spool: Spool | None = None
        self._rows: TokenRows | None = None

    def run(self, *positional: Any, n_tokens: int | None = None, tokens: Any = None) -> None:
        """Run the model over `tokens` ([rows, ctx_len] ids, or `TokenRows`), at most `n_tokens` of them.

        Both may also be positional, in either order. Whole rows are used: n_tokens // ctx_len of them,
        whatever the batch size. Work that an earlier, interrupted run left in `work_dir` is not repeated.
        """
        n_tokens, tokens = _either_order(positional, n_tokens, tokens)
        rows = _budgeted(_as_token_rows(tokens), n_tokens)
        self._rows = rows
        self._spool = Spool(
            self._work_dir, {path: coder.width for path, coder in self.coders.items()},
            n_positions=rows.tokens.size, dtype=self._options.activation_dtype,
            max_bytes=self._options.buffer_mib * MIB, fingerprint=self.fingerprint(rows),
        )  # fmt: skip
        self._stream(rows, self._spool)

    def save_splits(self, n_splits: int = 4, save_dir: str | Path = "raw_features") -> dict[str, CacheManifest]:
        """Write `save_dir/{module path}/{first}_{last}.safetensors`, split over the width; returns the manifests.

        Also writes the vocabulary's strings when the model has a tokenizer, so that records can be read as text.
        """
        if self._spool is None or self._rows is None:
            raise InputError("FeatureCache: call run(...) before save_splits(...)")
        root = Path(save_dir)
        tokenizer = getattr(self._model, "tokenizer", None)
        if tokenizer is not None:
            root.mkdir(parents=True, exist_ok=True)
            Vocabulary.from_tokenizer(tokenizer).save(root)
        manifests = {path: self._finish_module(path, n_splits, root / path) for path in self.coders}
        if self._own_folder:
            self.discard_work()
        return manifests

    def discard_work(self) -> None:
        """Delete the half-finished work in `work_dir`; for callers that gave one, once they have noted that all is done."""
        shutil.rmtree(self._work_dir, ignore_errors=True)

    def fingerprint(self, rows: TokenRows) -> str:
        """Hash of everything that decides what a finished cache holds."""
        digest = hashlib.sha256()
        kept = {path: features.tolist() for path, features in self._kept.items()}
        digest.update(json.dumps([FORMAT_VERSION, self._model_name(), self._options.activation_dtype, kept]).encode())
        digest.update(self._torch_model.config.to_json_string().encode())
        for path, coder in self.coders.items():
            digest.update(f"{path} {coder.settings.activation} {coder.settings.k}".encode())
            digest.update(_weights_sha256(coder).encode())
        for array in (rows.tokens, rows.documents):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

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
        is_text = torch.from_numpy(rows.documents[first:last] != NO_DOCUMENT).reshape(-1)
        sites = {path: coder.settings.side for path, coder in self.coders.items()}
        tokens = torch.from_numpy(rows.tokens[first:last]).long().to(self._device())
        activations = capture(self._torch_model, sites, tokens, _attention_mask(rows, first, last).to(self._device()))
        for path in list(activations):
            x = activations.pop(path)
            code = self.coders[path].encode(x.reshape(-1, x.shape[-1]))
            positions = code.positions.cpu()
            kept = is_text[positions] & self._is_kept(path, code.features).cpu()
            locations = positions[kept].numpy() + first * rows.ctx_len
            spool.append(path, code.features.cpu()[kept].numpy(), locations, code.values.cpu()[kept].numpy())

    def _is_kept(self, path: str, features: Int[Tensor, " nnz"]) -> Tensor:
        if path not in self._kept:
            return torch.ones_like(features, dtype=torch.bool)
        return torch.isin(features, self._kept[path].to(features.device))

    def _finish_module(self, path: str, n_splits: int, directory: Path) -> CacheManifest:
        assert self._spool is not None
        assert self._rows is not None
        coder, rows = self.coders[path], self._rows
        shards = merge_runs(self._spool.run_files(path), directory, shard_ranges(coder.width, n_splits))
        manifest = CacheManifest(
            format_version=FORMAT_VERSION, module_path=path, model=self._model_name(),
            autoencoder=f"{coder.settings.family}:{Path(coder.settings.source).name}",
            weights_sha256=_weights_sha256(coder), data=self._options.data_name, n_rows=rows.n_rows, ctx_len=rows.ctx_len,
            width=coder.width, activation_dtype=self._options.activation_dtype,
            location_dtype=str(self._spool.location_dtype), shards=shards, fingerprint=self.fingerprint(rows),
        )  # fmt: skip
        write_text(directory / MANIFEST, manifest.to_json())
        return manifest

    def _model_name(self) -> str:
        return str(getattr(self._torch_model.config, "_name_or_path", "") or type(self._torch_model).__name__)

    def _device(self) -> torch.device:
        return next(self._torch_model.parameters()).device


def _kept_features(coders: Mapping[str, SparseCoder], filters: Mapping[str, Any]) -> dict[str, Int[Tensor, " kept"]]:
    kept: dict[str, Tensor] = {}
    for path, features in filters.items():
        if path not in coders:
            raise UnknownNameError("module path in filters", path, coders)
        indices = torch.as_tensor(features, dtype=torch.long).unique()
        if len(indices) and not 0 <= int(indices[0]) <= int(indices[-1]) < coders[path].width:
            raise InputError(f"filters: features of {path} must lie in 0..{coders[path].width - 1}")
        kept[path] = indices
    return kept


def _either_order(positional: Sequence[Any], n_tokens: int | None, tokens: Any) -> tuple[int | None, Any]:
    for value in positional:
        if isinstance(value, int) and n_tokens is None:
            n_tokens = value
        elif tokens is None and not isinstance(value, int):
            tokens = value
        else:
            raise InputError(f"FeatureCache.run takes n_tokens and tokens once each; {type(value).__name__} came twice")
    if tokens is None:
        raise InputError("FeatureCache.run: no tokens given; pass tokens=[rows, ctx_len]")
    return n_tokens, tokens


def _as_token_rows(tokens: Any) -> TokenRows:
    if isinstance(tokens, TokenRows):
        return tokens
    try:
        return TokenRows.from_ids(tokens)
    except ValueError as error:
        raise InputError(f"FeatureCache.run: {error}") from error


def _budgeted(rows: TokenRows, n_tokens: int | None) -> TokenRows:
    if n_tokens is None or n_tokens >= rows.tokens.size:
        return rows
    n_rows = n_tokens // rows.ctx_len
    if n_rows == 0:
        raise InputError(f"n_tokens={n_tokens} is less than one row of {rows.ctx_len} tokens")
    return TokenRows(rows.tokens[:n_rows], rows.documents[:n_rows], rows.document_names)


def _attention_mask(rows: TokenRows, first: int, last: int) -> Int[Tensor, "batch seq"]:
    """Everything up to a row's last text token: BOS in front is read, padding behind is not."""
    is_text = rows.documents[first:last] != NO_DOCUMENT
    up_to_last = np.flip(np.maximum.accumulate(np.flip(is_text, 1), axis=1), 1)
    return torch.from_numpy(up_to_last.astype(np.int64))


def _weights_sha256(coder: SparseCoder) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(coder.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()

