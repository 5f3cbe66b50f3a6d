"""EleutherAI's sparsify weights: `{module path}/cfg.json` and `sae.safetensors`.

Source: github.com/EleutherAI/sparsify. The directory's name is the module's path below the base model
(`h.3`, `layers.5.mlp`). `encoder.weight` [width, d_in] and `W_dec` [width, d_in] both have latents as rows;
pre-activations pass a ReLU before the top k, and b_dec is subtracted from the input.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.files import (
    integer_of,
    matrix_of,
    read_json,
    read_safetensors,
    required_file,
    tensor_of,
)
from sae_auto_interp.autoencoders.settings import CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.errors import InputError, WeightsError


def load_eai_autoencoders(model: Any, modules: Sequence[str] | None, weight_dir: str | Path) -> dict[str, Any]:
    """Attach `weight_dir/{module}` for each module (None: all that are there); returns {module path: submodule}.

    Raises `InputError` for a missing directory or file and `WeightsError` for weights that do not fit.
    """
    return attach(model, coders_in(model, Path(weight_dir), modules))


def recognise(root: Path) -> str | None:
    """What gives the family away."""
    return "it holds */sae.safetensors" if next(root.glob("*/sae.safetensors"), None) else None


def coders_in(_model: Any, root: Path, chosen: Sequence[str] | None) -> dict[str, SparseCoder]:
    """`chosen` are module paths, which are the names of directories."""
    names = list(chosen) if chosen is not None else module_names(root)
    if not names:
        raise InputError(f"sparsify autoencoders: {root} holds no directory with a cfg.json")
    return {name: read(root / name) for name in names}


def module_names(root: Path) -> list[str]:
    """The module paths that a directory in sparsify's layout has weights for."""
    if not root.is_dir():
        raise InputError(f"sparsify autoencoders: there is no directory {root}")
    return sorted(p.parent.relative_to(root).as_posix() for p in root.glob("*/cfg.json"))


def read(directory: Path) -> SparseCoder:
    """Read one module's directory."""
    config_file = required_file(directory / "cfg.json", "sparsify autoencoder")
    config = read_json(config_file)
    file = required_file(directory / "sae.safetensors", "sparsify autoencoder")
    _refuse_variants(config, directory)
    state = read_safetensors(file)
    weights = CoderWeights(
        w_enc=matrix_of(state, "encoder.weight", file),
        b_enc=tensor_of(state, "encoder.bias", file),
        w_dec=matrix_of(state, "W_dec", file),
        b_dec=tensor_of(state, "b_dec", file),
    )
    k = integer_of(config, "k", config_file)
    settings = CoderSettings(activation="topk", k=k, family="sparsify", source=str(directory))
    return SparseCoder(weights, settings)


def save(directory: Path, weights: CoderWeights, k: int) -> None:
    """Write a TopK coder in sparsify's layout; `read` gives the same coder back."""
    width, d_in = weights.w_enc.shape
    config = {
        "activation": "topk", "expansion_factor": width // d_in, "normalize_decoder": True, "num_latents": width,
        "k": k, "multi_topk": False, "skip_connection": False, "transcode": False, "d_in": d_in,
    }  # fmt: skip
    tensors = {
        "encoder.weight": weights.w_enc, "encoder.bias": weights.b_enc, "W_dec": weights.w_dec, "b_dec": weights.b_dec,
    }  # fmt: skip
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cfg.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file({name: value.contiguous() for name, value in tensors.items()}, directory / "sae.safetensors")


def _refuse_variants(config: dict[str, Any], directory: Path) -> None:
    """Variants read differently; attaching one as if it were plain would give wrong numbers without a word."""
    activation = config.get("activation", "topk")
    if activation != "topk":
        raise WeightsError(f"{directory}: activation {activation!r} is not read yet; only 'topk' is")
    for flag in ("transcode", "skip_connection", "signed"):
        if config.get(flag):
            raise WeightsError(f"{directory}: {flag}=true is not read yet; only plain autoencoders are")
