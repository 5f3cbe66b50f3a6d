"""The embedded model with its coders, wired rightly and wrongly."""

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from sae_auto_interp.autoencoders import load_autoencoders
from sae_auto_interp.autoencoders.attach import attach, attached_coder
from sae_auto_interp.autoencoders.settings import CoderClaims, CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import WEIGHT_NAMES, CoderWeights, SparseCoder
from sae_auto_interp.config import PreflightConfig, resolve_path
from sae_auto_interp.data.rows import build_token_rows
from sae_auto_interp.data.standard_library import standard_library_documents
from sae_auto_interp.models.by_hooks import capture
from sae_auto_interp.models.sites.site import Site
from sae_auto_interp.models.subject import load_subject_model
from sae_auto_interp.preflight.check import check_attached, first_rows
from sae_auto_interp.types import NO_DOCUMENT, TokenRows
from sae_auto_interp.types.fit import Preflight

FAMILIES = {"openai": "transformer.h.1", "sparsify": "transformer.h.2", "saelens": "transformer.h.0.mlp"}


@cache
def wrapped_model() -> Any:
    """Loaded once; what is attached to it is replaced by each test."""
    return load_subject_model(resolve_path("embedded:language_model"), "cpu")


@cache
def rows() -> TokenRows:
    documents = standard_library_documents(2000)
    return build_token_rows(documents, wrapped_model().tokenizer, ctx_len=64, n_tokens=1500)


def model() -> nn.Module:
    return wrapped_model()._module


@cache
def stored_coder(family: str) -> SparseCoder:
    attached = load_autoencoders(wrapped_model(), resolve_path(f"embedded:sparse_coders/{family}"))
    coder = attached_coder(attached[FAMILIES[family]])
    assert isinstance(coder, SparseCoder)
    return coder


def weights_of(coder: SparseCoder) -> CoderWeights:
    return CoderWeights(**{name: getattr(coder, name) for name in WEIGHT_NAMES})


def coder(family: str, **settings: Any) -> SparseCoder:
    """A stored coder, with other settings where they are given."""
    stored = stored_coder(family)
    return SparseCoder(weights_of(stored), replace(stored.settings, **settings))


def claiming(family: str, **claims: Any) -> SparseCoder:
    return coder(family, claims=CoderClaims(**claims))


def check(coders: dict[Any, SparseCoder], subject: Any = None, allow: tuple[str, ...] = ()) -> list[Preflight]:
    subject = model() if subject is None else subject
    return list(check_attached(subject, attach(subject, coders), rows(), PreflightConfig(n_tokens=1200, allow=allow)))


def check_one(place: Any, one: SparseCoder, subject: Any = None, allow: tuple[str, ...] = ()) -> Preflight:
    (found,) = check({place: one}, subject, allow)
    return found


def activations(site: Site) -> Tensor:
    """What `site` gives on the text of the rows that a check of 1200 tokens uses."""
    used = first_rows(rows(), 1200)
    documents, tokens = torch.from_numpy(used.documents), torch.from_numpy(used.tokens).long()
    read = capture(model(), {"here": site}, tokens, torch.ones_like(tokens))["here"]
    return read[documents != NO_DOCUMENT]


def signed_pairs(w_enc: Tensor, w_dec: Tensor, b_dec: Tensor) -> SparseCoder:
    """A ReLU coder of pairs of opposite features, which together are the linear map x @ w_enc.T @ w_dec + b_dec."""
    weights = CoderWeights(torch.cat([w_enc, -w_enc]), torch.zeros(2 * len(w_enc)), torch.cat([w_dec, -w_dec]), b_dec)
    return SparseCoder(weights, CoderSettings(activation="relu", subtract_b_dec=False))


def square_coder(site: Site) -> SparseCoder:
    """As many features as dimensions: both directions of the principal components of the upper half."""
    x = activations(site)
    mean = x.mean(0)
    directions = torch.linalg.svd(x - mean, full_matrices=False).Vh[: x.shape[1] // 2]
    found = signed_pairs(directions, directions, mean - mean @ directions.T @ directions)
    assert found.w_enc.shape[0] == found.w_enc.shape[1]
    return found


def other_training_run() -> nn.Module:
    """The same model but for the names of its dimensions: what another seed would have learned."""
    other = copy.deepcopy(model())
    order = torch.randperm(128, generator=torch.Generator().manual_seed(0))
    reads, writes = ("c_attn.weight", "c_fc.weight"), ("wte.weight", "wpe.weight", "c_proj.weight")
    with torch.no_grad():
        for name, value in dict(other.named_parameters()).items():
            if name.endswith(reads):
                value.copy_(value[order])
            elif name.endswith(writes):
                value.copy_(value[:, order])
            elif ".ln_" in name or name.endswith("c_proj.bias"):
                value.copy_(value[order])
    return other


def untrained_model() -> nn.Module:
    """The same architecture with the weights that it is initialised with."""
    torch.manual_seed(0)
    return type(model())(copy.deepcopy(model().config)).eval()
