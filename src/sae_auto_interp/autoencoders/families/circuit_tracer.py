"""Transcoders of circuit-tracer: `config.yaml` and a file per layer, or two for cross-layer transcoders.

Source: github.com/safety-research/circuit-tracer; the sets of mwhanna and mntss. `config.yaml` says which hook of each
layer is read (`feature_input_hook`). Per layer, `layer_{N}.safetensors` holds W_enc [width, d], W_dec [width, d] and
perhaps W_skip and a JumpReLU threshold; nothing is subtracted from the input.

A cross-layer transcoder has `W_enc_{i}.safetensors` (with the biases) and `W_dec_{i}.safetensors` [width, layers from i
on, d]. Each encoder lives on one layer, and so it is attached; the sum of a feature's decoder rows is its direction, to
be looked at and not to reconstruct with.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.families._activation_names import check_activation
from sae_auto_interp.autoencoders.files import (
    Chosen,
    chosen_of,
    matrix_of,
    names_of,
    read_safetensors,
    read_yaml,
    refuse_unread,
    required_file,
    safetensors_shapes,
    sum_over_middle,
    tensor_of,
)
from sae_auto_interp.autoencoders.options import CoderOptions
from sae_auto_interp.autoencoders.placing import Listed, Placed, placed_coders
from sae_auto_interp.autoencoders.settings import CoderClaims, CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.errors import InputError, WeightsError
from sae_auto_interp.models.sites.site import Placement
from sae_auto_interp.models.sites.site_names import resolve_site

FILES = ("layer_*.safetensors", "W_enc_*.safetensors")
_CONFIG = "config.yaml"
_LAYER_FILE = re.compile(r"layer_(\d+)\.safetensors")
_ENCODER_FILE = re.compile(r"W_enc_(\d+)\.safetensors")
_TENSORS = ("W_enc", "b_enc", "W_dec", "b_dec", "W_skip", "activation_function.threshold", "threshold")
_THRESHOLDS = ("activation_function.threshold", "threshold")


def load_circuit_tracer_transcoders(model: Any, layers: Chosen, weight_dir: str | Path) -> dict[str, Any]:
    """Attach the transcoders in `weight_dir` for the given layers (None: all); returns {module path: submodule}.

    Raises `InputError` or `WeightsError`.
    """
    return attach(model, coders_in(model, Path(weight_dir), names_of(layers)))


def recognise(root: Path) -> str | None:
    """What gives the family away."""
    for layer, file in sorted(_files(root).items()):
        suffix = f"_{layer}" if _ENCODER_FILE.fullmatch(file.name) else ""
        shapes = safetensors_shapes(file)
        if f"W_enc{suffix}" in shapes and f"b_dec{suffix}" in shapes:
            return f"it holds {file.name} with W_enc{suffix}, b_dec{suffix}"
    return None


def coders_in(model: Any, root: Path, chosen: Sequence[str] | None, options: CoderOptions | None = None) -> Placed:
    """`chosen` are layer numbers."""
    if not root.exists():
        raise InputError(f"circuit-tracer transcoders: there is no directory {root}")
    files = chosen_of({str(n): file for n, file in sorted(_files(root).items())}, chosen, "circuit-tracer", root)
    listed = [
        Listed(file.name, partial(placement, model, layer, file), partial(read, file), "elsewhere")
        for layer, file in files.items()
    ]
    return placed_coders(model, listed, "circuit-tracer", chosen, options)


def read(file: Path) -> SparseCoder:
    """Read one layer's file; of a cross-layer transcoder the encoder's, its decoder lies beside it."""
    state = read_safetensors(required_file(file, "circuit-tracer transcoder"))
    encoder = _ENCODER_FILE.fullmatch(file.name)
    weights = _cross_layer(state, file, encoder[1]) if encoder else _per_layer(state, file)
    refuse_unread(state, {name + (f"_{encoder[1]}" if encoder else "") for name in _TENSORS}, file)
    config = _config(file) if (file.parent / _CONFIG).is_file() else {}
    check_activation(config, ("relu",) if weights.threshold is None else ("relu", "jumprelu"), file.parent / _CONFIG)
    settings = CoderSettings(
        activation="relu" if weights.threshold is None else "jumprelu", subtract_b_dec=False, prepend_bos=True,
        family="circuit_tracer", source=str(file), reconstructs=encoder is None,
        claims=CoderClaims(model=config.get("model_name"), hook=config.get("feature_input_hook")),
    )  # fmt: skip
    return SparseCoder(weights, settings)


def placement(model: Any, layer: str, file: Path) -> Placement:
    """Where one layer's transcoder reads, and what it reconstructs."""
    config = _config(file)
    hooks = [config.get(name) for name in ("feature_input_hook", "feature_output_hook")]
    if not all(isinstance(hook, str) for hook in hooks):
        raise WeightsError(f"{file.parent / 'config.yaml'}: feature_input_hook and feature_output_hook are {hooks}")
    read_at, written_at = (resolve_site(model, f"blocks.{layer}.{hook}") for hook in hooks)
    return Placement((read_at,), target=written_at)


def _per_layer(state: Mapping[str, Tensor], file: Path) -> CoderWeights:
    return CoderWeights(
        w_enc=matrix_of(state, "W_enc", file), b_enc=tensor_of(state, "b_enc", file),
        w_dec=matrix_of(state, "W_dec", file), b_dec=tensor_of(state, "b_dec", file),
        threshold=_threshold(state, "", file, len(state["W_enc"])),
        w_skip=matrix_of(state, "W_skip", file) if "W_skip" in state else None,
    )  # fmt: skip


def _cross_layer(state: Mapping[str, Tensor], file: Path, layer: str) -> CoderWeights:
    decoder = required_file(file.parent / f"W_dec_{layer}.safetensors", "circuit-tracer transcoder")
    name = f"W_dec_{layer}"
    if len(safetensors_shapes(decoder).get(name, ())) != 3:
        raise WeightsError(f"{decoder}: no tensor {name!r} of shape [width, layers, d]")
    w_enc = matrix_of(state, f"W_enc_{layer}", file)
    return CoderWeights(
        w_enc=w_enc, b_enc=tensor_of(state, f"b_enc_{layer}", file), w_dec=sum_over_middle(decoder, name),
        b_dec=tensor_of(state, f"b_dec_{layer}", file), threshold=_threshold(state, f"_{layer}", file, len(w_enc)),
    )  # fmt: skip


def _threshold(state: Mapping[str, Tensor], suffix: str, file: Path, width: int) -> Tensor | None:
    """[width], or one number for all features, or [1, width]."""
    functions = [name for name in state if name.startswith("activation_function.")]
    unknown = [name for name in functions if name not in {known + suffix for known in _THRESHOLDS}]
    if unknown:
        raise WeightsError(
            f"{file}: holds {unknown[0]!r}, which no activation function that is computed here has; known: ReLU, and "
            f"JumpReLU with {_THRESHOLDS[0]!r}"
        )
    name = next((name + suffix for name in _THRESHOLDS if name + suffix in state), None)
    if name is None:
        return None
    found = tensor_of(state, name, file)
    return found.expand(width) if found.numel() == 1 else found.flatten()


def _files(root: Path) -> dict[int, Path]:
    """{layer: its file, or its encoder's}"""
    files = [root] if root.is_file() else list(root.glob("*.safetensors"))
    matches = [(file, _LAYER_FILE.fullmatch(file.name) or _ENCODER_FILE.fullmatch(file.name)) for file in files]
    return {int(match[1]): file for file, match in matches if match}


def _config(file: Path) -> dict[str, Any]:
    return read_yaml(required_file(file.parent / _CONFIG, "circuit-tracer transcoder"))
