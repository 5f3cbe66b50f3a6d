"""Llama Scope and other coders of OpenMOSS' lm-saes: two layouts, one algebra.

Source: He et al. 2024 (arXiv 2410.20526), github.com/OpenMOSS/Language-Model-SAEs.

- v1: `hyperparams.json` and `checkpoints/final.safetensors` (`encoder.*`, `decoder.*` of torch's Linear).
- R1 and v2: `config.json` and `sae_weights.safetensors` (as v1, or `W_E` [d, width], `b_E`, `W_D` [width, d], `b_D`).

Coders were trained on activations times s_in = sqrt(d) / (average norm of the activations), and reconstruct them times
s_out; codes here are those of training, as on Neuronpedia. With `sparsity_include_decoder_norm` it is the
pre-activation times its decoder norm that is compared or ranked, while its value stays the pre-activation.

The threshold rule. R1 and v2 save a logarithm per feature, in the scale of training. v1 saves one number, which lm-saes
compares after it has rescaled the weights to raw activations: there a pre-activation is p / s_in and a decoder norm
|W_D| · s_in / s_out, so with the decoder norm included a feature fires where p · |W_D| / s_out > threshold, and
without it where p / s_in > threshold. For autoencoders with decoder rows of norm 1, as published, that is SAELens'
rule, threshold times s. Published thresholds agree: times s_out they are all about 2 (layer 8: 0.202 · 10.1, layer 24:
0.754 · 2.2, the transcoder of layer 8: 0.104 · 18.9), whatever the scale of the layer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.families._activation_names import check_activation
from sae_auto_interp.autoencoders.families._folding import ranked_by_decoder_norm, with_scaled_activations
from sae_auto_interp.autoencoders.files import (
    Chosen,
    by_name,
    chosen_of,
    files_below,
    flag_of,
    integer_of,
    matrix_of,
    names_of,
    read_json,
    read_safetensors,
    refuse_unread,
    required_file,
    safetensors_shapes,
    tensor_of,
)
from sae_auto_interp.autoencoders.options import CoderOptions
from sae_auto_interp.autoencoders.placing import Listed, Placed, Writes, placed_coders
from sae_auto_interp.autoencoders.settings import Activation, CoderClaims, CoderSettings, Normalisation
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.errors import InputError, WeightsError
from sae_auto_interp.models.sites.site import Placement
from sae_auto_interp.models.sites.site_names import resolve_site

_V1 = ("hyperparams.json", "checkpoints/final.safetensors")
_V2 = ("config.json", "sae_weights.safetensors")
FILES = ("final.safetensors", "sae_weights.safetensors")
_LOG_THRESHOLDS = ("log_jumprelu_threshold", "activation_function.log_jumprelu_threshold")
_NORM_OF = "dataset_average_activation_norm"
_ACTIVATIONS: dict[str, Activation] = {"relu": "relu", "jumprelu": "jumprelu", "topk": "topk"}


def load_llama_scope_autoencoders(model: Any, names: Chosen, weight_dir: str | Path) -> dict[str, Any]:
    """Attach the coders in `weight_dir`; returns {module path: submodule}.

    `names` are directories below it (`Llama3_1-8B-Base-L15R-8x`); None takes all. Raises `InputError`, `WeightsError`.
    """
    return attach(model, coders_in(model, Path(weight_dir), names_of(names)))


def recognise(root: Path) -> str | None:
    """What gives the family away: SAELens' weights are called as those of v2, so their tensors are looked at."""
    for file in files_below(root, _V1[1]):
        if (file.parents[1] / _V1[0]).is_file():
            return f"it holds {file.name} and {_V1[0]}"
    for file in files_below(root, _V2[1]):
        marks = {"W_E", *_LOG_THRESHOLDS} & safetensors_shapes(file).keys()
        if marks:
            return f"it holds {file.name} with {min(marks)}"
    return None


def coders_in(model: Any, root: Path, chosen: Sequence[str] | None, options: CoderOptions | None = None) -> Placed:
    """`chosen` are directories below `root`."""
    if not root.exists():
        raise InputError(f"Llama Scope autoencoders: there is no {root}")
    directories = [f.parents[1] for f in files_below(root, _V1[1])] + [f.parent for f in files_below(root, _V2[1])]
    found = by_name(root, directories)

    listed = [
        Listed(name, partial(placement, model, directory), partial(read, directory), _writes(directory))
        for name, directory in chosen_of(found, chosen, "Llama Scope", root).items()
    ]
    return placed_coders(model, listed, "Llama Scope", chosen, options)


def read(directory: Path) -> SparseCoder:
    """Read one coder's directory, of either layout."""
    saved = _saved(directory)
    _refuse_variants(saved)
    activation = _activation(saved)
    weights = _weights(saved)
    refuse_unread(saved.state, _tensors_of(saved, activation), saved.weights_file)
    scale = _scale(saved)
    if activation == "jumprelu":
        weights = replace(weights, threshold=_thresholds(saved, scale, len(weights.w_enc)))
    if saved.includes_decoder_norm:
        weights = ranked_by_decoder_norm(weights, activation, str(saved.weights_file))
    settings = CoderSettings(
        activation=activation, k=integer_of(saved.config, "top_k", saved.config_file) if activation == "topk" else None,
        subtract_b_dec=flag_of(saved.config, "apply_decoder_bias_to_pre_encoder", saved.config_file),
        normalisation=_normalisation(saved), prepend_bos=True, family="llama_scope", source=str(directory),
        claims=_claims(saved.config),
    )  # fmt: skip
    if settings.subtract_b_dec and scale.read != scale.written:
        raise WeightsError(f"{saved.config_file}: apply_decoder_bias_to_pre_encoder is not read for transcoders")
    weights = with_scaled_activations(weights, scale.read, scale.written, str(saved.weights_file))
    return SparseCoder(weights, settings)


def placement(model: Any, directory: Path) -> Placement:
    """Where a coder belongs, by the hook names of its config."""
    saved = _saved(directory)
    read_at = saved.config.get("hook_point_in")
    written_at = saved.config.get("hook_point_out", read_at)
    if not isinstance(read_at, str):
        raise WeightsError(
            f"{saved.config_file}: 'hook_point_in' is {read_at!r}; coders of several places are not read"
        )
    return Placement(
        (resolve_site(model, read_at),), None if written_at == read_at else resolve_site(model, str(written_at))
    )


def _writes(directory: Path) -> Writes:
    config_file, _ = _files(directory)
    config = read_json(config_file)
    read_at = config.get("hook_point_in")
    return "what it reads" if config.get("hook_point_out", read_at) == read_at else "elsewhere"


@dataclass(frozen=True, slots=True)
class _Saved:
    """The files of one coder."""

    config: Mapping[str, Any]
    config_file: Path
    state: Mapping[str, Tensor]
    weights_file: Path

    @property
    def includes_decoder_norm(self) -> bool:
        return flag_of(self.config, "sparsity_include_decoder_norm", self.config_file)

    @property
    def is_v1(self) -> bool:
        return self.config_file.name == _V1[0]


@dataclass(frozen=True, slots=True)
class _Scale:
    """What activations were multiplied by in training, where they are read and where they are reconstructed."""

    read: float
    written: float


def _files(directory: Path) -> tuple[Path, Path]:
    """Configuration and weights, of either layout."""
    names = _V1 if (directory / _V1[0]).is_file() else _V2
    config, weights = (required_file(directory / name, "Llama Scope autoencoder") for name in names)
    return config, weights


def _saved(directory: Path) -> _Saved:
    config_file, file = _files(directory)
    return _Saved(read_json(config_file), config_file, read_safetensors(file), file)


def _weights(saved: _Saved) -> CoderWeights:
    state, file = saved.state, saved.weights_file
    is_row_vector = "W_E" in state
    w_enc = matrix_of(state, "W_E" if is_row_vector else "encoder.weight", file)
    w_dec = matrix_of(state, "W_D" if is_row_vector else "decoder.weight", file)
    w_dec = w_dec if is_row_vector else w_dec.T
    bias = "b_D" if is_row_vector else "decoder.bias"
    has_bias = flag_of(saved.config, "use_decoder_bias", saved.config_file, default=True)
    return CoderWeights(
        w_enc=w_enc.T if is_row_vector else w_enc,
        b_enc=tensor_of(state, "b_E" if is_row_vector else "encoder.bias", file),
        w_dec=w_dec,
        b_dec=tensor_of(state, bias, file) if has_bias else torch.zeros(w_dec.shape[1]),
    )


def _tensors_of(saved: _Saved, activation: Activation) -> set[str]:
    linear = {f"{layer}.{part}" for layer in ("encoder", "decoder") for part in ("weight", "bias")}
    own = {"W_E", "b_E", "W_D", "b_D"} if "W_E" in saved.state else linear
    norms = {name for name in saved.state if name.startswith(f"{_NORM_OF}.")}
    return own | norms | (set(_LOG_THRESHOLDS) if activation == "jumprelu" else set())


def _activation(saved: _Saved) -> Activation:
    """Some configs of R1 say nothing; a saved threshold then does."""
    has_thresholds = any(name in saved.state for name in _LOG_THRESHOLDS)
    name = str(saved.config.get("act_fn", "jumprelu" if has_thresholds else "relu")).lower()
    if name not in _ACTIVATIONS:
        raise WeightsError(
            f"{saved.config_file}: act_fn {name!r} is not read; known: {', '.join(_ACTIVATIONS)}. A batchtopk coder is "
            "converted to jumprelu by lm-saes before it is used"
        )
    others = {key: value for key, value in saved.config.items() if key != "act_fn"}
    check_activation(others, tuple(_ACTIVATIONS), saved.config_file)
    return _ACTIVATIONS[name]


def _thresholds(saved: _Saved, scale: _Scale, width: int) -> Tensor:
    """What pre-activations (times their decoder norm, if that is included) must exceed, in the scale of training."""
    if saved.is_v1:
        threshold = saved.config.get("jump_relu_threshold")
        if not isinstance(threshold, int | float) or isinstance(threshold, bool):
            raise WeightsError(f"{saved.config_file}: 'jump_relu_threshold' is {threshold!r}, but must be a number")
        return torch.full((width,), threshold * (scale.written if saved.includes_decoder_norm else scale.read))
    name = next((name for name in _LOG_THRESHOLDS if name in saved.state), _LOG_THRESHOLDS[0])
    logarithms = tensor_of(saved.state, name, saved.weights_file)
    if logarithms.numel() not in (1, width):
        raise WeightsError(
            f"{saved.weights_file}: {name!r} has shape {tuple(logarithms.shape)}, but there are {width} features"
        )
    return logarithms.exp().flatten().expand(width)


def _normalisation(saved: _Saved) -> Normalisation:
    how = saved.config.get("norm_activation", "dataset-wise")
    if how == "token-wise" and saved.config.get("hook_point_out") == saved.config.get("hook_point_in"):
        return "constant_norm"
    if how not in ("dataset-wise", "inference"):
        raise WeightsError(f"{saved.config_file}: norm_activation {how!r} is not read for this coder")
    return "none"


def _scale(saved: _Saved) -> _Scale:
    if saved.config.get("norm_activation", "dataset-wise") != "dataset-wise":
        return _Scale(1.0, 1.0)
    d_model = integer_of(saved.config, "d_model", saved.config_file)
    read_at = saved.config.get("hook_point_in")
    written_at = saved.config.get("hook_point_out", read_at)
    norms = [_average_norm(saved, side, str(hook)) for side, hook in (("in", read_at), ("out", written_at))]
    return _Scale(*(d_model**0.5 / norm for norm in norms))


def _average_norm(saved: _Saved, side: str, hook: str) -> float:
    """In v1 in the config, by side; in v2 among the tensors, by hook; in some configs by hook."""
    listed = saved.config.get(_NORM_OF)
    norms: Mapping[str, Any] = listed if isinstance(listed, dict) else {}
    norm = norms.get(hook, norms.get(side, saved.state.get(f"{_NORM_OF}.{hook}")))
    value = float(norm) if isinstance(norm, int | float | Tensor) else 0.0
    if not 0 < value < float("inf"):
        raise WeightsError(
            f"{saved.config_file}: activations were normalised by their average norm, but it is {norm!r} for {hook}; "
            f"add it to the config, as {_NORM_OF}: {{in: ..., out: ...}}"
        )
    return value


def _refuse_variants(saved: _Saved) -> None:
    kind = str(saved.config.get("sae_type", "sae"))
    if kind != "sae":
        raise WeightsError(f"{saved.config_file}: sae_type {kind!r} is not read; only 'sae', transcoders included")
    if flag_of(saved.config, "use_glu_encoder", saved.config_file):
        raise WeightsError(f"{saved.config_file}: use_glu_encoder is not read")


def _claims(config: Mapping[str, Any]) -> CoderClaims:
    """Coders trained by top k and then given a threshold keep about as many as k."""
    k, hook, ctx_len = config.get("top_k"), config.get("hook_point_in"), config.get("context_size")
    return CoderClaims(
        model=config.get("model_name"), l0=float(k) if isinstance(k, int) else None, hook=hook,
        ctx_len=ctx_len if isinstance(ctx_len, int) else None,
    )  # fmt: skip
