"""Rewrite weights so that a family's scalings are part of them: the canonical form needs to know nothing of them.

Each function takes and gives `CoderWeights`; nothing is changed in place. A decoder row of zeros is given the norm 1,
so that nothing is divided by zero. Raises `WeightsError` about the file `where` when shapes disagree.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from sae_auto_interp.autoencoders.settings import HAS_K, Activation
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, check_shapes


def decoder_norms(weights: CoderWeights) -> Float[Tensor, " width"]:
    """Length of what each feature writes."""
    norms = weights.w_dec.float().norm(dim=1)
    return norms.where(norms > 0, 1.0)


def with_unit_decoder(weights: CoderWeights, activation: Activation, where: str) -> CoderWeights:
    """Every code times the norm of its decoder row, and decoder rows of norm 1: the same features fire, and the same is
    reconstructed."""
    check_shapes(weights, where)
    norms = decoder_norms(weights)
    w_dec = weights.w_dec.float() / norms[:, None]
    if weights.gain is not None and weights.offset is not None:
        return replace(weights, w_dec=w_dec, gain=weights.gain * norms, offset=weights.offset * norms)
    if activation in HAS_K:  # which are the largest is decided before they are scaled
        return replace(weights, w_dec=w_dec, gain=norms, offset=torch.zeros_like(norms))
    threshold = None if weights.threshold is None else weights.threshold * norms
    return replace(
        weights, w_enc=weights.w_enc * norms[:, None], b_enc=weights.b_enc * norms, w_dec=w_dec, threshold=threshold
    )


def ranked_by_decoder_norm(weights: CoderWeights, activation: Activation, where: str) -> CoderWeights:
    """Whether a feature fires is decided on its pre-activation times its decoder norm, its value stays the former
    (`sparsity_include_decoder_norm` of OpenMOSS). So what has a decoder row of zeros never fires."""
    check_shapes(weights, where)
    norms, writes = decoder_norms(weights), (weights.w_dec != 0).any(dim=1)
    weights = replace(weights, w_enc=weights.w_enc * writes[:, None], b_enc=weights.b_enc * writes)
    if activation in HAS_K:
        return replace(
            weights, w_enc=weights.w_enc * norms[:, None], b_enc=weights.b_enc * norms,
            gain=1 / norms, offset=torch.zeros_like(norms),
        )  # fmt: skip
    return replace(weights, threshold=None if weights.threshold is None else weights.threshold / norms)


def with_scaled_activations(weights: CoderWeights, read: float, written: float, where: str) -> CoderWeights:
    """For coders trained on activations times `read`, that reconstruct activations times `written`: the raw ones are
    read and reconstructed. Codes stay as they were in training."""
    check_shapes(weights, where)
    return replace(
        weights, w_enc=weights.w_enc.float() * read, w_dec=weights.w_dec.float() / written,
        b_dec=weights.b_dec.float() / written,
    )  # fmt: skip
