"""Autoencoders that were never trained, as a control: what explanations and scores are worth without any learning.

Weights are those of a freshly initialised autoencoder of dictionary_learning or sparsify: decoder rows drawn uniformly
from the unit sphere, the encoder their transpose, biases zero. The vectors they read stay the model's own; only the
directions are random.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sae_auto_interp.autoencoders.settings import CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.errors import InputError
from sae_auto_interp.models.activations import site_width
from sae_auto_interp.models.sites.site import Site
from sae_auto_interp.models.sites.site_names import resolve_site


def random_coder(d_in: int, width: int, rng: np.random.Generator, *, k: int | None = None) -> SparseCoder:
    """TopK with `k`; without it ReLU, of which about half of all features fire at any position."""
    if width < 1 or d_in < 1:
        raise InputError(f"random coder: width={width} and d_in={d_in} must be at least 1")
    rows = rng.normal(size=(width, d_in))
    unit = torch.from_numpy((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
    settings = CoderSettings(
        activation="relu" if k is None else "topk", k=k, subtract_b_dec=False, prepend_bos=None, family="random",
        source="random", reconstructs=False,
    )  # fmt: skip
    return SparseCoder(CoderWeights(unit, torch.zeros(width), unit, torch.zeros(d_in)), settings)


def random_coders(
    model: Any, module_paths: Sequence[str], width: int, rng: np.random.Generator, *, k: int | None = None
) -> dict[Site, SparseCoder]:
    """One for each place, of its size, for `attach`; places are named as for `neuron_coders`."""
    sites = [resolve_site(model, name) for name in module_paths]
    return {site: random_coder(site_width(model, site), width, rng, k=k) for site in sites}
