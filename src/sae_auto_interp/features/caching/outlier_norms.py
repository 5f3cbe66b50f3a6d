"""Which activation norm is an outlier, per module: a multiple of the median norm, fixed before anything is cached.

The median is that of the text positions of the first rows, read in batches of a size of their own: so it depends on
neither the batch size nor where a run was interrupted. It is kept with the half-finished work, and a resumed run reads
it back (docs/decisions/0007-outlier-norms.md).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sae_auto_interp.autoencoders.coder import Coder
from sae_auto_interp.cache.files import write_text, writing
from sae_auto_interp.errors import CacheError, InputError
from sae_auto_interp.features.caching.coder_inputs import CoderInputs
from sae_auto_interp.features.token_input import attention_mask
from sae_auto_interp.models.activations import activation_reader
from sae_auto_interp.models.placement import input_device, torch_model
from sae_auto_interp.module_names import resolve_module_name
from sae_auto_interp.types import NO_DOCUMENT, Array, NormMask, TokenRows

MEDIAN_TOKENS = 8192
"""Positions of the first rows that the median is taken from, about; some hundred would do for two digits of it."""
ROWS_PER_PASS = 8
NORMS = "norms.json"


@dataclass(frozen=True, slots=True)
class NormLimits:
    """The norm beyond which a position is masked, for each module whose activations have one: token ids have none."""

    multiple: float
    medians: Mapping[str, float]

    def __contains__(self, path: str) -> bool:
        return path in self.medians

    def of(self, path: str) -> float:
        return self.multiple * self.medians[path]

    def mask(self, path: str) -> NormMask | None:
        """What the manifest of a module says."""
        return NormMask(self.multiple, self.medians[path]) if path in self else None


def norm_limits(
    multiple: float, given: Mapping[str, float] | None, model: Any, coders: Mapping[str, Coder], rows: TokenRows,
    backend: str, kept_in: Path | None = None, fingerprint: str = "",
) -> NormLimits:  # fmt: skip
    """The limits for some rows: from the medians `given`, else those kept in `kept_in`, else measured and kept there.

    Coders that read token ids have none.
    `fingerprint` says whose work `kept_in` holds. Raises `InputError` for a module without a usable median, and
    `CacheError` when what is kept is damaged or of other work.
    """
    coders = {path: coder for path, coder in coders.items() if not coder.reads_token_ids}
    if given is not None:
        return NormLimits(multiple, _checked(given, coders))
    path = None if kept_in is None else kept_in / NORMS
    if path is not None and path.is_file():
        return NormLimits(multiple, _kept(path, fingerprint))
    medians = median_norms(model, coders, rows, backend)
    if path is not None:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"fingerprint": fingerprint, "median_norms": medians}) + "\n")
    return NormLimits(multiple, medians)


def median_norms(model: Any, coders: Mapping[str, Coder], rows: TokenRows, backend: str) -> dict[str, float]:
    """Median norm of each module's activations at the text positions of the first rows that have some."""
    with_text = np.flatnonzero((rows.documents != NO_DOCUMENT).any(axis=1))
    first = with_text[: max(1, MEDIAN_TOKENS // rows.ctx_len)]
    if len(first) == 0:
        raise InputError("max_norm_multiple needs the norm of some text, and the rows hold none; leave it out")
    if not coders:
        return {}
    inputs, read, device = CoderInputs(coders), activation_reader(model, backend), input_device(torch_model(model))
    norms: dict[str, list[Array]] = {path: [] for path in coders}
    for begin in range(0, len(first), ROWS_PER_PASS):
        numbers = first[begin : begin + ROWS_PER_PASS]
        documents = rows.documents[numbers]
        is_text = torch.from_numpy((documents != NO_DOCUMENT).reshape(-1))
        tokens = torch.from_numpy(rows.tokens[numbers].astype(np.int64)).to(device)
        mask = torch.from_numpy(attention_mask(documents)).to(device)

        def take(path: str, activations: Tensor, is_text: Tensor = is_text) -> None:
            norms[path].append(_norms(activations.flatten(0, 1)).cpu()[is_text].double().numpy())

        read(inputs.sites, tokens, mask, inputs.reader(take))
    return _checked({path: _median(np.concatenate(found)) for path, found in norms.items()}, coders)


def _median(norms: Float[Array, " n"]) -> float:
    """Return the median of the finite norms; a NaN activation is refused where it is encoded."""
    finite = norms[np.isfinite(norms)]
    return float(np.median(finite)) if len(finite) else float("nan")


def is_outlier(x: Float[Tensor, "n d"], limit: float) -> Bool[Tensor, " n"]:
    """Which activations are longer than `limit`, on their own device; what is no number is none of them."""
    return _norms(x).gt(limit)


def _norms(x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    return x.float().square().sum(dim=1).sqrt()


def _checked(medians: Mapping[str, float], coders: Mapping[str, Coder]) -> dict[str, float]:
    medians = {resolve_module_name(name, coders, "median_norms"): median for name, median in medians.items()}
    for path in coders:
        if not 0 < medians.get(path, 0.0) < np.inf:
            raise InputError(
                f"{path}: the median activation norm is {medians.get(path, 'not given')}, "
                "which no outlier can be a multiple of; leave out max_norm_multiple, or give median_norms"
            )
    return {path: float(medians[path]) for path in coders}


def _kept(path: Path, fingerprint: str) -> dict[str, float]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        found, medians = str(content["fingerprint"]), dict[str, float](content["median_norms"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CacheError(f"{path} is damaged ({error}); delete {path.parent} and cache again") from error
    if found != fingerprint:
        raise CacheError(
            f"{path.parent} holds a half-finished cache of another configuration; delete it or choose another directory"
        )
    return medians
