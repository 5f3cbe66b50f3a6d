"""Gemma Scope: `layer_{N}/width_{W}/average_l0_{X}/params.npz`, JumpReLU, of Gemma 2.

Source: Lieberum et al. 2024 (arXiv 2408.05147), huggingface.co/google/gemma-scope. Matrices are for row vectors, codes
are ReLU(p) where p is above the threshold, and nothing is subtracted from the input. The arrays look the same for every
kind of place, and the places are not what their names suggest: `mlp` is what the MLP adds to the residual stream, after
its norm (the raw output gives a fraction of variance unexplained of 9.8 instead of 0.26); `att` is the concatenated
heads before the output projection; transcoders read the residual stream normalised without the norm's gain. So the kind
must be in a directory's name, as in the repositories' own (`gemma-scope-2b-pt-res`), or be given.

The coders of `embedding` were trained on embeddings as they are stored. Gemma scales them by sqrt(d) on their way in,
and so does the embedding of transformers 5: input and output are rescaled here, b_dec included.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.families._folding import with_scaled_activations
from sae_auto_interp.autoencoders.files import (
    Chosen,
    by_name,
    chosen_of,
    files_below,
    matrix_of,
    names_of,
    npz_names,
    read_npz,
    refuse_unread,
    required_file,
    tensor_of,
)
from sae_auto_interp.autoencoders.options import CoderOptions
from sae_auto_interp.autoencoders.placing import Listed, Placed, Writes, placed_coders
from sae_auto_interp.autoencoders.settings import CoderClaims, CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.errors import InputError, UnknownNameError, WeightsError
from sae_auto_interp.models.sites.hook_names import EMBEDDING_HOOK
from sae_auto_interp.models.sites.published_sites import gemma_scope_site
from sae_auto_interp.models.sites.site import Placement
from sae_auto_interp.models.sites.site_names import resolve_site

FILES = ("params.npz",)
_ARRAYS = {"W_enc", "W_dec", "b_enc", "b_dec", "threshold"}
_KINDS = ("res", "mlp", "att", "transcoders")
_EMBEDDING = "embedding"
OPTIONS = ("kind",)


def load_gemma_scope_autoencoders(
    model: Any, names: Chosen, weight_dir: str | Path, *, kind: str | None = None
) -> dict[str, Any]:
    """Attach the coders in `weight_dir`; returns {module path: submodule}.

    `names` are directories below it (`layer_20/width_16k/average_l0_71`); None takes all. `kind` is `res`, `mlp`, `att`
    or `transcoders`; None takes it from the name of a directory, as the repositories have it. Raises `InputError` or
    `WeightsError`.
    """
    return attach(model, coders_in(model, Path(weight_dir), names_of(names), CoderOptions(kind=kind)))


def recognise(root: Path) -> str | None:
    """What gives the family away."""
    for file in files_below(root, "params.npz"):
        if npz_names(file) >= _ARRAYS:
            return f"it holds {file.name} with {', '.join(sorted(_ARRAYS))}"
    return None


def coders_in(model: Any, root: Path, chosen: Sequence[str] | None, options: CoderOptions | None = None) -> Placed:
    """`chosen` are directories below `root`."""
    if not root.exists():
        raise InputError(f"Gemma Scope autoencoders: there is no {root}")
    found = by_name(root, (file.parent for file in files_below(root, "params.npz")))
    kind = None if options is None else options.kind
    if kind is not None and kind not in _KINDS:
        raise UnknownNameError("kind of Gemma Scope coder", kind, _KINDS)
    listed = [
        Listed(name, partial(placement, model, where, kind), partial(read, where), _writes(where, kind))
        for name, where in chosen_of(found, chosen, "Gemma Scope", root).items()
    ]
    return placed_coders(model, listed, "Gemma Scope", chosen, options)


def read(directory: Path) -> SparseCoder:
    """Read one `params.npz`."""
    file = required_file(directory / "params.npz", "Gemma Scope autoencoder")
    state = read_npz(file)
    scaling = state.get("scaling_factor")
    if scaling is not None and not bool((scaling == 1).all()):
        raise WeightsError(f"{file}: a fine-tuned 'scaling_factor' is not read")
    weights = CoderWeights(
        w_enc=matrix_of(state, "W_enc", file).T, b_enc=tensor_of(state, "b_enc", file),
        w_dec=matrix_of(state, "W_dec", file), b_dec=tensor_of(state, "b_dec", file),
        threshold=tensor_of(state, "threshold", file),
    )  # fmt: skip
    refuse_unread(state, _ARRAYS | {"scaling_factor"}, file)
    if _is_of_embeddings(directory):
        scale = weights.w_enc.shape[1] ** -0.5
        weights = with_scaled_activations(weights, scale, scale, str(file))
    settings = CoderSettings(
        activation="jumprelu", subtract_b_dec=False, prepend_bos=True, family="gemma_scope", source=str(directory),
        claims=_claims(directory),
    )  # fmt: skip
    return SparseCoder(weights, settings)


def placement(model: Any, directory: Path, kind: str | None = None) -> Placement:
    """Where the coder of a directory belongs."""
    kind, layer = kind or _kind(directory), _layer(directory)
    if kind not in _KINDS:
        raise UnknownNameError("kind of Gemma Scope coder", kind, _KINDS)
    if layer == _EMBEDDING:
        return Placement((resolve_site(model, EMBEDDING_HOOK),))
    if kind != "transcoders":
        return Placement((gemma_scope_site(model, kind, int(layer)),))
    read_at, written_at = (gemma_scope_site(model, f"transcoder_{side}", int(layer)) for side in ("in", "out"))
    return Placement((read_at,), written_at)


def _writes(directory: Path, kind: str | None) -> Writes:
    return "elsewhere" if (kind or _named_kind(directory)) == "transcoders" else "what it reads"


def _kind(directory: Path) -> str:
    kind = _named_kind(directory)
    if kind is None:
        raise InputError(
            f"{directory}: the arrays do not say whether they are of 'res', 'mlp', 'att' or 'transcoders', nor does a "
            "directory's name (gemma-scope-2b-pt-res); give kind in the run file, or use "
            "load_gemma_scope_autoencoders with kind="
        )
    return kind


def _named_kind(directory: Path) -> str | None:
    """By the nearest directory that says it: `gemma-scope-2b-pt-res`, also within the hub's `models--google--...`."""
    for part in reversed(directory.absolute().parts):
        match = re.search(r"gemma-scope-\w+-\w+-(res|mlp|att|transcoders)(?:$|-)", part)
        if match:
            return match[1]
    return None


def _is_of_embeddings(directory: Path) -> bool:
    return _named_layer(directory) == _EMBEDDING


def _layer(directory: Path) -> str:
    """The layer's number, or `embedding`."""
    layer = _named_layer(directory)
    if layer is None:
        raise InputError(f"{directory}: no directory of its path is called layer_N or embedding")
    return layer


def _named_layer(directory: Path) -> str | None:
    for part in reversed(directory.absolute().parts):
        match = re.fullmatch(r"layer_(\d+)|(embedding)", part)
        if match:
            return match[1] or match[2]
    return None


def _claims(directory: Path) -> CoderClaims:
    path = directory.absolute().as_posix()
    model = re.search(r"gemma-scope-(\d+b)-(pt|it)", path)
    l0 = re.search(r"average_l0_(\d+)", path)
    name = f"google/gemma-2-{model[1]}" + ("-it" if model[2] == "it" else "") if model else None
    return CoderClaims(model=name, l0=float(l0[1]) if l0 else None)
