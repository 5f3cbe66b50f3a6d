"""OpenAI's `sparse_autoencoder` weights of GPT-2: `{layer}.pt` holding a dict of tensors and the activation's name.

Source: github.com/openai/sparse_autoencoder. `activation` "TopK" (versions 5) normalises its input and keeps k raw
pre-activations, then ReLU; "ReLU" (versions 1 and 4), which is also meant where none is named, does neither. `pre_bias`
is subtracted from the input in both. Where a file belongs is not in it but in the directories that OpenAI publishes it
in, `{location}{version}/autoencoders/{layer}.pt`; without those it is taken for the residual stream's.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.files import (
    integer_of,
    matrix_of,
    names_of,
    read_torch_file,
    refuse_unread,
    required_file,
    tensor_of,
)
from sae_auto_interp.autoencoders.options import CoderOptions
from sae_auto_interp.autoencoders.placing import Listed, Placed, placed_coders
from sae_auto_interp.autoencoders.settings import CoderClaims, CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.errors import InputError, UnknownNameError, WeightsError
from sae_auto_interp.models.sites.site import Placement
from sae_auto_interp.models.sites.site_names import resolve_site

FILES = ("*.pt",)
LOCATIONS = {
    "mlp_post_act": "mlp.hook_post",
    "resid_delta_attn": "hook_attn_out",
    "resid_delta_mlp": "hook_mlp_out",
    "resid_post_attn": "hook_resid_mid",
    "resid_post_mlp": "hook_resid_post",
}
"""OpenAI's names for the sites of a block, and TransformerLens'."""
OPTIONS = ("location",)
DEFAULT_LOCATION = "resid_post_mlp"
_TENSORS = {
    "pre_bias", "encoder.weight", "latent_bias", "decoder.weight",
    "stats_last_nonzero", "latents_activation_frequency", "latents_mean_square",
}  # fmt: skip
"""The last three are statistics of the training."""
_VERSION = re.compile(r"_v\d+(_\d+k)?$")


def load_oai_autoencoders(
    model: Any, layers: int | Sequence[int], weight_dir: str | Path, *, location: str | None = None
) -> dict[str, Any]:
    """Attach `weight_dir/{layer}.pt` for each layer; returns {module path: submodule}.

    `location` is OpenAI's name for the site: `resid_post_mlp` (the residual stream after the block), `resid_post_attn`
    (within it), `resid_delta_mlp`, `resid_delta_attn` or `mlp_post_act`. None: what the directory's own path says, else
    `resid_post_mlp`. Raises `InputError` for a missing file and `WeightsError` for one that is damaged, holds other
    tensors, or does not fit the model.
    """
    return attach(model, coders_in(model, Path(weight_dir), names_of(layers) or (), CoderOptions(location=location)))


def recognise(root: Path) -> str | None:
    """What gives the family away: the tensors' names, in a file or directory of `{layer}.pt`."""
    if root.is_dir():
        layers = saved_layers(root)
        return "it holds {layer}.pt" if layers and _is_openai(root / f"{layers[0]}.pt") else None
    is_named = root.suffix == ".pt" and root.stem.isdecimal()
    return "it is {layer}.pt with 'pre_bias' and 'latent_bias'" if is_named and _is_openai(root) else None


def coders_in(model: Any, root: Path, chosen: Sequence[str] | None, options: CoderOptions | None = None) -> Placed:
    """`chosen` are layer numbers; a file's own is its name."""
    location = None if options is None else options.location
    if location is not None and location not in LOCATIONS:
        raise UnknownNameError("location", location, LOCATIONS)
    if root.is_file():
        files = {_layer(root.stem): root}
    else:
        layers = saved_layers(root) if chosen is None else [_layer(text) for text in chosen]
        files = {layer: root / f"{layer}.pt" for layer in layers}
    listed = [_listed(model, layer, file, location) for layer, file in files.items()]
    return placed_coders(model, listed, "OpenAI", chosen, options)


def saved_layers(root: Path) -> list[int]:
    """Layers that a directory in OpenAI's layout has weights for."""
    return sorted(int(p.stem) for p in root.glob("*.pt") if p.stem.isdecimal())


def location_of(path: Path) -> str:
    """The location in the names of the directories above a file, where they are OpenAI's own."""
    names = [_VERSION.sub("", name) for name in path.absolute().parts]
    return next((name for name in reversed(names) if name in LOCATIONS), DEFAULT_LOCATION)


def read(path: Path, hook: str | None = None) -> SparseCoder:
    """Read one `{layer}.pt`; executes no pickled code."""
    state: dict[str, Any] = read_torch_file(required_file(path, "OpenAI autoencoder"))
    name = state.get("activation", "ReLU")
    if name not in ("TopK", "ReLU"):
        raise WeightsError(
            f"{path}: activation is {name!r}; of OpenAI's, 'TopK' and 'ReLU' are sparse codes of features and are read"
        )
    is_topk = name == "TopK"
    k = _k(state, path) if is_topk else None
    weights = CoderWeights(
        w_enc=matrix_of(state, "encoder.weight", path),
        b_enc=tensor_of(state, "latent_bias", path),
        w_dec=matrix_of(state, "decoder.weight", path).T,
        b_dec=tensor_of(state, "pre_bias", path),
    )
    refuse_unread(state, _TENSORS, path)
    settings = CoderSettings(
        activation="topk" if is_topk else "relu", k=k, subtract_b_dec=True,
        normalisation="layer_norm" if is_topk else "none", family="openai", source=str(path),
        claims=CoderClaims(l0=None if k is None else float(k), hook=hook),
    )  # fmt: skip
    return SparseCoder(weights, settings)


def save(path: Path, weights: CoderWeights, k: int) -> None:
    """Write a TopK coder in OpenAI's layout (v5); `read` gives the same coder back."""
    state: dict[str, Tensor | str | dict[str, Any]] = {
        "pre_bias": weights.b_dec,
        "encoder.weight": weights.w_enc,
        "latent_bias": weights.b_enc,
        "decoder.weight": weights.w_dec.T.contiguous(),
        "activation": "TopK",
        "activation_state_dict": {"k": k, "postact_fn": "ReLU"},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)


def _listed(model: Any, layer: int, file: Path, location: str | None) -> Listed:
    hook = f"blocks.{layer}.{LOCATIONS[location or location_of(file)]}"
    return Listed(file.name, lambda: Placement((resolve_site(model, hook),)), lambda: read(file, hook))


def _is_openai(file: Path) -> bool:
    """Other families have `.pt` files too. One that is damaged or refused is OpenAI's to complain about."""
    try:
        return {"pre_bias", "latent_bias"} <= read_torch_file(file).keys()
    except WeightsError:
        return True


def _k(state: dict[str, Any], path: Path) -> int:
    """TopK's k; refuses one that keeps negative values, which a feature's activation cannot be."""
    saved: dict[str, Any] = state.get("activation_state_dict") or {}
    kept = saved.get("postact_fn", "ReLU")
    if kept != "ReLU":
        raise WeightsError(
            f"{path}: postact_fn={kept!r} would let negative values through; OpenAI's TopK files say 'ReLU'"
        )
    return integer_of(saved, "k", path)


def _layer(text: str) -> int:
    if not text.isdecimal():
        raise InputError(f"OpenAI autoencoders are chosen by layer number, not {text!r}")
    return int(text)
