"""SAELens weights: `cfg.json` and `sae_weights.safetensors` (version 6 and the flat files before it).

Source: github.com/jbloomAus/SAELens. Weights are row-vector oriented, W_enc [d_in, width]. Batch-top-k and matryoshka
coders are saved by SAELens as JumpReLU, so `standard`, `jumprelu` and `topk` cover them. The hook's name says
where the coder reads, in TransformerLens' vocabulary.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.files import (
    integer_of,
    matrix_of,
    read_json,
    read_safetensors,
    required_file,
    tensor_of,
)
from sae_auto_interp.autoencoders.normalisation import Normalisation
from sae_auto_interp.autoencoders.settings import Activation, CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.errors import InputError, UnknownNameError, WeightsError
from sae_auto_interp.models.placement import torch_model

_ACTIVATIONS: dict[str, Activation] = {"standard": "relu", "jumprelu": "jumprelu", "topk": "topk"}
_NORMALISATIONS: dict[Any, Normalisation] = {None: "none", False: "none", "none": "none", "layer_norm": "layer_norm"}
_GPT2_HOOKS = {"hook_resid_post": "h.{}", "hook_mlp_out": "h.{}.mlp", "hook_attn_out": "h.{}.attn"}
_NEOX_HOOKS = {"hook_resid_post": "layers.{}", "hook_mlp_out": "layers.{}.mlp", "hook_attn_out": "layers.{}.attention"}
_LLAMA_HOOKS = {"hook_resid_post": "layers.{}", "hook_mlp_out": "layers.{}.mlp", "hook_attn_out": "layers.{}.self_attn"}
_HOOKS_BY_MODEL_TYPE = {
    "gpt2": _GPT2_HOOKS,
    "gpt_neox": _NEOX_HOOKS,
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), _LLAMA_HOOKS),
}


def load_saelens_autoencoders(model: Any, directories: Sequence[str] | None, weight_dir: str | Path) -> dict[str, Any]:
    """Attach SAELens coders below `weight_dir` at the hooks that their configs name.

    `directories` are names below `weight_dir`; None takes `weight_dir` itself if it holds a cfg.json, otherwise every
    directory below it that does. Returns {module path: submodule}. Raises `InputError` or `WeightsError`.
    """
    return attach(model, coders_in(model, Path(weight_dir), directories))


def recognise(root: Path) -> str | None:
    """What gives the family away."""
    for pattern in ("sae_weights.safetensors", "*/sae_weights.safetensors"):
        if any((file.parent / "cfg.json").is_file() for file in root.glob(pattern)):
            return f"it holds {pattern} and cfg.json"
    return None


def coders_in(model: Any, root: Path, chosen: Sequence[str] | None) -> dict[str, SparseCoder]:
    """`chosen` are names of directories."""
    directories = coder_directories(root) if chosen is None else [root / name for name in chosen]
    places: dict[str, Path] = {}
    for directory in directories:
        path = module_path(directory, _model_type(model))
        if path in places:
            both = f"{places[path].name} and {directory.name}"
            raise InputError(f"SAELens autoencoders: {both} are both for {path}; choose one by its directory's name")
        places[path] = directory
    return {path: read(directory) for path, directory in places.items()}


def coder_directories(root: Path) -> list[Path]:
    """`root` if it holds a coder's config, otherwise the directories in it that do."""
    if not root.is_dir():
        raise InputError(f"SAELens autoencoders: there is no directory {root}")
    found = [root] if (root / "cfg.json").is_file() else sorted(p.parent for p in root.glob("*/cfg.json"))
    if not found:
        raise InputError(f"SAELens autoencoders: no cfg.json in {root} or in a directory below it")
    return found


def read(directory: Path) -> SparseCoder:
    """Read one coder's directory."""
    config = _read_config(directory)
    file = required_file(directory / "sae_weights.safetensors", "SAELens autoencoder")
    state = read_safetensors(file)
    activation = _activation(config, directory)
    _refuse_scaling(state, file)
    weights = CoderWeights(
        w_enc=matrix_of(state, "W_enc", file).T,
        b_enc=tensor_of(state, "b_enc", file),
        w_dec=matrix_of(state, "W_dec", file),
        b_dec=tensor_of(state, "b_dec", file),
        threshold=tensor_of(state, "threshold", file) if activation == "jumprelu" else None,
    )
    settings = CoderSettings(
        activation=activation, k=integer_of(config, "k", directory / "cfg.json") if activation == "topk" else None,
        subtract_b_dec=bool(config.get("apply_b_dec_to_input", True)), normalisation=_normalisation(config, directory),
        prepend_bos=bool(config["metadata"].get("prepend_bos", True)), family="saelens", source=str(directory),
    )  # fmt: skip
    return SparseCoder(_folded(weights) if config.get("rescale_acts_by_decoder_norm") else weights, settings)


def module_path(directory: Path, model_type: str) -> str:
    """Path below the base model of the module that a coder's hook name means."""
    hook = str(_read_config(directory)["metadata"].get("hook_name", ""))
    match = re.fullmatch(r"blocks\.(\d+)\.(\w+)", hook)
    table = _HOOKS_BY_MODEL_TYPE.get(model_type)
    if table is None:
        raise UnknownNameError("model type for TransformerLens hook names", model_type, _HOOKS_BY_MODEL_TYPE)
    if match is None or match.group(2) not in table:
        raise UnknownNameError(f"hook (of {directory})", hook, [f"blocks.N.{name}" for name in table])
    return table[match.group(2)].format(match.group(1))


def save_jumprelu(directory: Path, weights: CoderWeights, metadata: dict[str, Any]) -> None:
    """Write a JumpReLU coder in SAELens' layout; `read` gives the same coder back."""
    if weights.threshold is None:
        raise WeightsError("a JumpReLU coder needs thresholds")
    width, d_in = weights.w_enc.shape
    config = {
        "d_in": d_in, "d_sae": width, "dtype": "float32", "device": "cpu", "architecture": "jumprelu",
        "apply_b_dec_to_input": True, "normalize_activations": "none", "reshape_activations": "none",
        "metadata": metadata,
    }  # fmt: skip
    tensors = {
        "W_enc": weights.w_enc.T, "b_enc": weights.b_enc, "W_dec": weights.w_dec, "b_dec": weights.b_dec,
        "threshold": weights.threshold,
    }  # fmt: skip
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cfg.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file({name: value.contiguous() for name, value in tensors.items()}, directory / "sae_weights.safetensors")


def _read_config(directory: Path) -> dict[str, Any]:
    """The config in version 6's form: the flat files of earlier versions are lifted into it."""
    config = read_json(required_file(directory / "cfg.json", "SAELens autoencoder"))
    if isinstance(config.get("metadata"), dict):
        return config
    config.setdefault("hook_name", config.get("hook_point"))
    if config.get("activation_fn", config.get("activation_fn_str")) == "topk":
        config["architecture"] = "topk"
        config["k"] = (config.get("activation_fn_kwargs") or {}).get("k")
    names = ("hook_name", "prepend_bos", "model_name", "model_from_pretrained_kwargs", "context_size")
    return config | {"metadata": {name: config[name] for name in names if config.get(name) is not None}}


def _activation(config: dict[str, Any], directory: Path) -> Activation:
    architecture = str(config.get("architecture", "standard"))
    if architecture not in _ACTIVATIONS:
        raise WeightsError(
            f"{directory}: architecture {architecture!r} is not read yet; known: {', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[architecture]


def _refuse_scaling(state: dict[str, Tensor], file: Path) -> None:
    """Early versions saved a scaling of the codes, all ones unless it was fine-tuned."""
    scaling = state.get("scaling_factor")
    if scaling is not None and not bool((scaling == 1).all()):
        raise WeightsError(f"{file}: a fine-tuned 'scaling_factor' is not read yet")


def _folded(weights: CoderWeights) -> CoderWeights:
    """Codes scaled by the norm of their decoder rows before the top k, and back on decoding, as plain weights."""
    norms = weights.w_dec.norm(dim=-1)
    w_dec = weights.w_dec / norms.where(norms > 0, torch.ones(()))[:, None]
    return replace(weights, w_enc=weights.w_enc * norms[:, None], b_enc=weights.b_enc * norms, w_dec=w_dec)


def _normalisation(config: dict[str, Any], directory: Path) -> Normalisation:
    name = config.get("normalize_activations")
    if name not in _NORMALISATIONS:
        raise WeightsError(f"{directory}: normalize_activations={name!r} is not read yet; known: none, layer_norm")
    kwargs = config["metadata"].get("model_from_pretrained_kwargs") or {}
    if kwargs.get("center_writing_weights"):
        raise WeightsError(
            f"{directory}: was trained on centred activations (center_writing_weights), which is not read yet"
        )
    if config.get("reshape_activations", "none") not in ("none", None):
        raise WeightsError(f"{directory}: reshape_activations={config['reshape_activations']!r} is not read yet")
    return _NORMALISATIONS[name]


def _model_type(model: Any) -> str:
    return str(getattr(getattr(torch_model(model), "config", None), "model_type", "unknown"))
