"""What a model loses when an autoencoder's reconstruction stands in the place of what it reconstructs.

In: a model with autoencoders attached, token rows. Out: next-token losses in nats, summed over each document, of the
clean model and with the place replaced by the reconstruction, by its mean over the same text, and by zero.

Only text positions are replaced: BOS and padding, which autoencoders are not used on, stay as they are, and the
model reads them. A loss is counted where a token and the next are text of one document. All replacements are made over
the same batches, and the clean pass once for all autoencoders.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

from sae_auto_interp.autoencoders.coder import Coder
from sae_auto_interp.autoencoders.editing.coder_editor import check_reconstructs
from sae_auto_interp.autoencoders.editing.edits import Edit, Positions, Replacement
from sae_auto_interp.autoencoders.editing.runs import edited_logits
from sae_auto_interp.errors import InputError
from sae_auto_interp.models.activations import activation_reader
from sae_auto_interp.models.by_nnsight import plain_trace
from sae_auto_interp.models.placement import input_device, torch_model
from sae_auto_interp.models.sites.site import Placement, Site
from sae_auto_interp.protocols import Progress
from sae_auto_interp.types import NO_DOCUMENT, Array, TokenRows

CONDITIONS = ("reconstruction", "mean", "zero")
"""What is put in an autoencoder's place."""


@dataclass(frozen=True, slots=True)
class SubstitutionLosses:
    """Sums over the documents that have at least one counted token, in order of document."""

    n_targets: Int64[Array, " n_documents"]
    """Tokens whose loss is counted."""
    clean: Float64[Array, " n_documents"]
    substituted: Mapping[str, Mapping[str, Float64[Array, " n_documents"]]]
    """{module path: {one of CONDITIONS: losses}}"""


@dataclass(frozen=True, slots=True)
class _Batch:
    tokens: Int64[Tensor, "batch seq"]
    mask: Int64[Tensor, "batch seq"]
    """1 up to a row's last text token: what is in front is read by the model, padding behind is not."""
    documents: Int64[Array, "batch seq"]
    is_text: Bool[Array, "batch seq"]


def substitution_losses(
    model: Any, coders: Mapping[str, Coder], rows: TokenRows, batch_size: int, progress: Progress | None = None
) -> SubstitutionLosses:
    """Losses of every document of `rows`. `coders` are by the module path where they are attached to `model`.

    Raises `InputError` when no token of the rows follows another of its document, for a coder that does not
    reconstruct, and what `edited_logits` does.
    """
    for path, coder in coders.items():
        check_reconstructs(coder, path)
    traced, batches = plain_trace(model), list(_batches(rows, batch_size))
    counted = np.zeros(len(rows.document_names))
    for batch in batches:
        counted += _summed(batch, np.ones(batch.documents[:, 1:].shape), len(counted))
    kept = np.flatnonzero(counted)
    if len(kept) == 0:
        raise InputError("no token of the text follows another of its document; give more text")
    means = site_means(traced, {path: _target(path, coder) for path, coder in coders.items()}, batches)
    keys = [("", "clean"), *((path, what) for path in coders for what in CONDITIONS)]
    totals = {key: np.zeros(len(counted)) for key in keys}
    if progress is not None:
        progress.start("losses", sum(len(batch.tokens) for batch in batches), 0, "rows")
    for batch in batches:
        for key, edits in _conditions(means, batch):
            totals[key] += _summed(batch, _losses(traced, batch, edits), len(counted))
        if progress is not None:
            progress.advance(len(batch.tokens))
    if progress is not None:
        progress.finish()
    by_path = {path: {what: totals[path, what][kept] for what in CONDITIONS} for path in coders}
    return SubstitutionLosses(counted[kept].astype(np.int64), totals["", "clean"][kept], by_path)


def site_means(model: Any, sites: Mapping[str, Site], batches: Sequence[_Batch]) -> dict[str, Float32[Array, " d"]]:
    """Mean of each site over the text positions of all batches, added up in float64."""
    read_activations = activation_reader(model)
    device = input_device(torch_model(model))
    sums: dict[str, Tensor] = {}
    for batch in batches:

        def add(name: str, x: Tensor, is_text: Array = batch.is_text) -> None:
            total = x[torch.from_numpy(is_text).to(x.device)].double().sum(0).cpu()
            sums[name] = sums[name] + total if name in sums else total

        read_activations(sites, batch.tokens.to(device), batch.mask.to(device), add)
    n = sum(int(batch.is_text.sum()) for batch in batches)
    return {name: (total / n).float().numpy() for name, total in sums.items()}


def _target(path: str, coder: Coder) -> Site:
    return (coder.placement or Placement((Site(path, coder.settings.side),))).reconstructed


def _batches(rows: TokenRows, batch_size: int) -> Iterator[_Batch]:
    """Rows without text are left out."""
    kept = np.flatnonzero((rows.documents != NO_DOCUMENT).any(1))
    for first in range(0, len(kept), batch_size):
        chosen = kept[first : first + batch_size]
        documents = rows.documents[chosen].astype(np.int64)
        is_text = documents != NO_DOCUMENT
        mask = is_text[:, ::-1].cumsum(1)[:, ::-1] > 0
        tokens = torch.from_numpy(rows.tokens[chosen].astype(np.int64))
        yield _Batch(tokens, torch.from_numpy(mask.astype(np.int64)), documents, is_text)


def _conditions(
    means: Mapping[str, Float32[Array, " d"]], batch: _Batch
) -> Iterator[tuple[tuple[str, str], list[Edit]]]:
    """((module path, what is put there), the edits that do it), the clean model first."""
    yield ("", "clean"), []
    positions = Positions(mask=batch.is_text)
    for path, mean in means.items():
        for what, vector in zip(CONDITIONS, (None, mean, np.zeros_like(mean)), strict=True):
            yield (path, what), [Replacement(path, vector, positions)]


def _losses(model: Any, batch: _Batch, edits: list[Edit]) -> Float64[Array, "batch targets"]:
    """Loss of every token but the first of each row, row by row so that float32 logits stay small."""
    logits = edited_logits(model, batch.tokens, edits, attention_mask=batch.mask)
    return np.stack([_row_losses(row[:-1], ids[1:]) for row, ids in zip(logits, batch.tokens, strict=True)])


def _row_losses(logits: Float[Tensor, "n vocab"], targets: Int64[Tensor, " n"]) -> Float64[Array, " n"]:
    return cross_entropy(logits.float(), targets.to(logits.device), reduction="none").double().cpu().numpy()


def _summed(batch: _Batch, losses: Float64[Array, "batch targets"], n_documents: int) -> Float64[Array, " n_documents"]:
    """Sum over the counted tokens of each document."""
    documents = batch.documents[:, 1:]
    counts = (documents == batch.documents[:, :-1]) & batch.is_text[:, 1:]
    return np.bincount(documents[counts], losses[counts], minlength=n_documents).astype(np.float64)
