"""A run file -> for each of its autoencoders, how much of the model's loss its reconstruction keeps.

The text is that of the run file, cut into rows as for caching; nothing is kept but the estimates.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

from sae_auto_interp.errors import InputError
from sae_auto_interp.features.caching.code_stream import rows_per_batch
from sae_auto_interp.metrics.losses import LossEstimates, loss_estimates
from sae_auto_interp.pipeline.cache_stage import load_inputs
from sae_auto_interp.pipeline.resolved import Inputs
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.protocols import Progress
from sae_auto_interp.seeds import derived_rng

LOGITS_AT_ONCE = 1 << 26
"""Entries of the logits of a batch: 256 MiB in float32, which the vocabulary decides and not the model's width."""


def run_loss_recovered(inputs: Inputs, progress: Progress, n_tokens: int | None = None) -> dict[str, LossEstimates]:
    """Estimates for each module path, over `n_tokens` of text (None: as many as the run file says).

    Raises what loading does, and `InputError` for fewer tokens than 1, for text without two tokens in a row, and for an
    autoencoder whose reconstruction cannot be put into the model.
    """
    from sae_auto_interp.autoencoders.attach import attached_coder
    from sae_auto_interp.autoencoders.editing.substitution_losses import substitution_losses

    if n_tokens is not None:
        if n_tokens < 1:
            raise InputError(f"n_tokens={n_tokens}; give at least 1")
        data = inputs.text.data.model_copy(update={"n_tokens": n_tokens})
        inputs = replace(inputs, text=replace(inputs.text, data=data))
    with tempfile.TemporaryDirectory() as folder:
        model, attached, rows = load_inputs(inputs, RunDirectory(Path(folder)), progress)
    coders = {path: attached_coder(handle) for path, handle in attached.items()}
    batch_size = inputs.caching.cache.batch_size or _batch_size(model.config, rows.ctx_len, model.device.type)
    losses = substitution_losses(model, coders, rows, batch_size, progress)
    return {
        path: loss_estimates(
            losses.n_targets, losses.clean, substituted, derived_rng(inputs.subject.seed, f"loss_recovered.{path}")
        )
        for path, substituted in losses.substituted.items()
    }


def _batch_size(model_config: object, ctx_len: int, device_type: str) -> int:
    """Rows whose forward pass and whose logits fit the memory that they are given."""
    vocabulary = getattr(model_config, "vocab_size", None)
    of_logits = LOGITS_AT_ONCE // (ctx_len * vocabulary) if isinstance(vocabulary, int) else 1
    return max(1, min(rows_per_batch(model_config, ctx_len, device_type), of_logits))
