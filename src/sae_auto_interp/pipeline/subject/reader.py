"""The run's own subject model as an `ActivationReader`: loaded when a text is first read, and read in a thread.

One thread, so that the event loop goes on and the model runs one call at a time.

What a feature does on texts that somebody writes: read as the run's own rows are read and cached.

The same tokenizer, BOS policy, row length, masks and outlier norms as in the cache, so that "fires" means the same here
and there. A text is a row of its own; what does not fit the row is cut off.

The texts of one call are one batch, and calls are never joined: what is computed for a text can depend on the batch it
is in (its shape decides how a matrix product is summed), and then scores would depend on who else was waiting.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Float32

from sae_auto_interp.cache.reader import read_manifest
from sae_auto_interp.data.layout import Row, RowFiller, RowLayout
from sae_auto_interp.errors import UnknownNameError
from sae_auto_interp.features.vocabulary import Vocabulary
from sae_auto_interp.pipeline.cache_stage import assumed_bos, bos_policies, load_subject
from sae_auto_interp.pipeline.resolved import Inputs
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.token_rows import bos_policy, row_layout
from sae_auto_interp.types import NO_DOCUMENT, Array, FeatureId, NormMask, TextActivations, TokenRows

ROWS_PER_PASS = 32


class SubjectTexts:
    """A subject model with its autoencoders, for reading texts.

    `model` is what `load_subject_model` returns, `attached` what a `load_*_autoencoders` function does. `masks` gives
    the outlier norms of those modules that were cached with some.
    """

    def __init__(
        self,
        model: Any,
        attached: Mapping[str, Any],
        layout: RowLayout,
        masks: Mapping[str, NormMask] | None = None,
        backend: str = "hooks",
    ) -> None:
        from sae_auto_interp.autoencoders.attach import attached_coder

        self._model = model
        self._coders = {path: attached_coder(handle) for path, handle in attached.items()}
        self._filler = RowFiller(layout, model.tokenizer)
        self._vocabulary = Vocabulary.from_tokenizer(model.tokenizer)
        self._masks = masks or {}
        self._backend = backend
        self._streams: dict[str, Any] = {}

    def read(self, texts: Sequence[str], feature: FeatureId) -> list[TextActivations]:
        """One result per text, in order. Raises `UnknownNameError` for a module without an autoencoder."""
        if feature.module_path not in self._coders:
            raise UnknownNameError("module path with an autoencoder", feature.module_path, self._coders)
        room = self._filler.layout.room
        ids = [self._filler.ids_of(text)[:room] for text in texts]
        rows = [self._filler.row(own, number) for number, own in enumerate(ids)]
        dense = np.zeros((len(rows), self._filler.layout.ctx_len), np.float32)
        for first in range(0, len(rows), ROWS_PER_PASS):
            part = rows[first : first + ROWS_PER_PASS]
            width = max(_n_used(row) for row in part)
            dense[first : first + len(part), :width] = self._activations(_stacked(part, width), feature)
        begin = self._filler.layout.ctx_len - room
        return [
            TextActivations(self._vocabulary.str_tokens(own), dense[i, begin : begin + len(own)])
            for i, own in enumerate(ids)
        ]

    def _activations(self, rows: TokenRows, feature: FeatureId) -> "Float32[Array, 'n_rows width']":
        """Return one feature's activations from one forward pass."""
        dense = np.zeros(rows.tokens.size, np.float32)
        for found in self._stream(feature.module_path).begin(rows, 0, rows.n_rows).entries():
            own = found.features == feature.index
            dense[found.locations[own]] = found.activations[own]
        return dense.reshape(rows.tokens.shape)

    def _stream(self, path: str) -> Any:
        """The encoder of one module, made when it is first used."""
        from sae_auto_interp.features.caching.code_stream import CodeStream
        from sae_auto_interp.features.caching.outlier_norms import NormLimits

        if path not in self._streams:
            mask = self._masks.get(path)
            limits = None if mask is None else NormLimits(mask.max_norm_multiple, {path: mask.median_norm})
            self._streams[path] = CodeStream(self._model, {path: self._coders[path]}, {}, self._backend, limits)
        return self._streams[path]


def _n_used(row: Row) -> int:
    """Places up to the last token of text; at least one, as a row has one."""
    used = np.flatnonzero(row.documents != NO_DOCUMENT)
    return int(used[-1]) + 1 if len(used) else 1


def _stacked(rows: Sequence[Row], width: int) -> TokenRows:
    """Rows cut to the places that are used."""
    tokens = np.stack([row.tokens[:width] for row in rows])
    documents = np.stack([row.documents[:width] for row in rows])
    return TokenRows(tokens, documents, tuple(f"text {i}" for i in range(int(documents.max()) + 1)))


class SubjectReader:
    """`ActivationReader` over what `load` returns."""

    def __init__(self, load: Callable[[], SubjectTexts]) -> None:
        self._load = load
        self._texts: SubjectTexts | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="subject-model")

    async def activations(self, texts: Sequence[str], feature: FeatureId) -> list[TextActivations]:
        """One result per text, in order; raises what loading the model does."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, tuple(texts), feature)

    def close(self) -> None:
        """Let the model go. A call under way ends first."""
        self._thread.shutdown()
        self._texts = None

    def _read(self, texts: Sequence[str], feature: FeatureId) -> list[TextActivations]:
        if self._texts is None:
            self._texts = self._load()
        return self._texts.read(texts, feature)


def subject_texts(inputs: Inputs, directory: RunDirectory) -> SubjectTexts:
    """The run's model with all of its autoencoders, reading texts as the run's cache was made."""
    model, attached = load_subject(inputs.subject, directory.pinned)
    layout = row_layout(inputs.text, bos_policy(inputs.text, bos_policies(attached), assumed_bos(attached)))
    return SubjectTexts(model, attached, layout, _masks(directory, attached), inputs.caching.cache.backend)


def _masks(directory: RunDirectory, modules: dict[str, Any]) -> dict[str, NormMask]:
    """The outlier norms that modules were cached with."""
    masks = {path: read_manifest(directory.features / path).norm_mask for path in modules}
    return {path: mask for path, mask in masks.items() if mask is not None}
