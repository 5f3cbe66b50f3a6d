"""The tensors of a SAELens `sae_weights.safetensors` in canonical form.

SAELens writes row vectors: `W_enc` is [d_in, width], `W_dec` [width, d_out]. Scalings that it keeps apart are folded in
where that changes nothing but rounding: a factor of all activations, and a fine-tuned factor of each code, which it
applies on decoding alone. Pre-activations times the norm of their decoder rows (`rescale_acts_by_decoder_norm`) stay
apart, so that equal ones stay equal.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sae_auto_interp.autoencoders.families.saelens_config import SaelensConfig
from sae_auto_interp.autoencoders.files import matrix_of, tensor_of
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights
from sae_auto_interp.errors import WeightsError


def canonical_weights(state: Mapping[str, Any], config: SaelensConfig, file: Path) -> CoderWeights:
    """Raises `WeightsError` for missing tensors."""
    weights = _gated(state, file) if config.activation == "gated" else _plain(state, file)
    if config.activation == "jumprelu":
        weights = replace(weights, threshold=tensor_of(state, "threshold", file))
    if config.has_skip:
        weights = replace(weights, w_skip=matrix_of(state, "W_skip", file))
    if config.rescales_by_decoder_norm:
        weights = _rescaled(weights)
    weights = _finetuned(weights, state, config, file)
    return weights if config.norm_scaling_factor is None else _scaled(weights, config.norm_scaling_factor)


def _plain(state: Mapping[str, Any], file: Path) -> CoderWeights:
    return CoderWeights(
        w_enc=matrix_of(state, "W_enc", file).T,
        b_enc=tensor_of(state, "b_enc", file),
        w_dec=matrix_of(state, "W_dec", file),
        b_dec=tensor_of(state, "b_dec", file),
    )


def _gated(state: Mapping[str, Any], file: Path) -> CoderWeights:
    """Fires where u + b_gate > 0, with ReLU(exp(r_mag) · u + b_mag), u being the input times W_enc."""
    b_gate = tensor_of(state, "b_gate", file)
    return CoderWeights(
        w_enc=matrix_of(state, "W_enc", file).T,
        b_enc=torch.zeros_like(b_gate),
        w_dec=matrix_of(state, "W_dec", file),
        b_dec=tensor_of(state, "b_dec", file),
        threshold=-b_gate,
        gain=tensor_of(state, "r_mag", file).exp(),
        offset=tensor_of(state, "b_mag", file),
    )


def _rescaled(weights: CoderWeights) -> CoderWeights:
    """Codes are scaled by the norms of their decoder rows, and divided by them on decoding."""
    norms = weights.w_dec.norm(dim=-1)
    w_dec = weights.w_dec / norms.where(norms > 0, torch.ones((), dtype=norms.dtype))[:, None]
    return replace(weights, scale=norms, w_dec=w_dec)


def _finetuned(weights: CoderWeights, state: Mapping[str, Any], config: SaelensConfig, file: Path) -> CoderWeights:
    """Early versions saved a factor of each code for decoding: of ones unless it was fine-tuned."""
    name = next((name for name in ("scaling_factor", "finetuning_scaling_factor") if name in state), None)
    factor = None if name is None else tensor_of(state, name, file)
    if factor is None or bool((factor == 1).all()):
        return weights
    if not config.is_finetuned:
        raise WeightsError(f"{file}: holds a 'scaling_factor', but cfg.json does not say finetuning_scaling_factor")
    if factor.numel() not in (1, len(weights.w_dec)):
        raise WeightsError(f"{file}: {name!r} has shape {tuple(factor.shape)}, but W_dec {tuple(weights.w_dec.shape)}")
    return replace(weights, w_dec=weights.w_dec * factor.reshape(-1, 1))


def _scaled(weights: CoderWeights, factor: float) -> CoderWeights:
    """For activations as they are, of a coder that was trained on `factor` times them."""
    return replace(weights, w_enc=weights.w_enc * factor, w_dec=weights.w_dec / factor, b_dec=weights.b_dec / factor)
