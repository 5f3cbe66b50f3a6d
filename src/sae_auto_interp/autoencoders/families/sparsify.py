"""EleutherAI's sparsify weights: `{module path}/cfg.json` and `sae.safetensors`.

Source: github.com/EleutherAI/sparsify. The directory's name is the module's path below the base model (`h.3`,
`layers.5.mlp`), with `seedN` below it where several were trained. `encoder.weight` [width, d_in] and `W_dec`
[width, d_out] both have latents as rows; pre-activations pass a ReLU before the top k. An autoencoder reads what the
module gives, minus b_dec; a transcoder reads what the module reads, as it is, and reconstructs what the module gives.
What a cfg.json does not say is sparsify's own default; files of its first version may say `signed`, which then has no
ReLU and keeps the k entries of largest absolute value.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.directories import Chosen, names_of
from sae_auto_interp.autoencoders.files import (
    integer_of,
    matrix_of,
    read_json,
    read_safetensors,
    required_file,
    tensor_of,
)
from sae_auto_interp.autoencoders.settings import Activation, CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.autoencoders.sparsify_layout import claims_of_run, coder_directories, module_path
from sae_auto_interp.errors import InputError, WeightsError
from sae_auto_interp.models.sites.module_paths import resolve_module_path
from sae_auto_interp.models.sites.site import Placement, Site

DEFAULTS: dict[str, Any] = {"activation": "topk", "k": 32, "num_latents": 0, "expansion_factor": 32}
_ACTIVATIONS: dict[str, Activation] = {"topk": "topk", "groupmax": "groupmax"}


def load_eai_autoencoders(model: Any, modules: Chosen, weight_dir: str | Path) -> dict[str, Any]:
    """Attach `weight_dir/{module}` for each module (None: all that are there); returns {module path: submodule}.

    Raises `InputError` for a missing directory or file and `WeightsError` for weights that do not fit.
    """
    return attach(model, coders_in(model, Path(weight_dir), names_of(modules)))


def recognise(root: Path) -> str | None:
    """What gives the family away."""
    if root.is_file():
        return "it is sae.safetensors" if root.name == "sae.safetensors" else None
    found = next(root.rglob("sae.safetensors"), None)
    return None if found is None else f"it holds {found.relative_to(root)}"


def coders_in(model: Any, root: Path, chosen: Sequence[str] | None) -> dict[Placement, SparseCoder]:
    """`chosen` are names of directories: module paths, and `seedN` after a slash where there are several."""
    coders: dict[Placement, SparseCoder] = {}
    origins: dict[Placement, Path] = {}
    for directory in coder_directories(root, chosen):
        coder = read(directory)
        placement = _placement(resolve_module_path(model, module_path(model, directory)), coder.settings)
        if placement in origins:
            both = " and ".join("/".join(d.parts[-2:]) for d in (origins[placement], directory))
            raise InputError(f"sparsify autoencoders: {both} are both for {placement.home}; choose one of them")
        coders[placement], origins[placement] = coder, directory
    return coders


def read(directory: Path) -> SparseCoder:
    """Read one module's directory."""
    config_file = required_file(directory / "cfg.json", "sparsify autoencoder")
    config = DEFAULTS | read_json(config_file)
    file = required_file(directory / "sae.safetensors", "sparsify autoencoder")
    state = read_safetensors(file)
    is_transcoder = bool(config.get("transcode"))
    weights = CoderWeights(
        w_enc=matrix_of(state, "encoder.weight", file),
        b_enc=tensor_of(state, "encoder.bias", file),
        w_dec=matrix_of(state, "W_dec", file),
        b_dec=tensor_of(state, "b_dec", file),
        w_skip=matrix_of(state, "W_skip", file) if config.get("skip_connection") else None,
    )
    _check_shape(config, weights.w_enc, config_file)
    activation, k = _activation(config, config_file), integer_of(config, "k", config_file)
    settings = CoderSettings(
        activation=activation, k=k, relu_before_topk=activation == "topk", subtract_b_dec=not is_transcoder,
        side="input" if is_transcoder else "output", family="sparsify", source=str(directory),
        claims=claims_of_run(directory, k),
    )  # fmt: skip
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


def _activation(config: dict[str, Any], file: Path) -> Activation:
    name = config["activation"]
    if name not in _ACTIVATIONS:
        raise WeightsError(f"{file}: activation is {name!r}; sparsify has {', '.join(_ACTIVATIONS)}")
    return "abstopk" if config.get("signed") else _ACTIVATIONS[name]


def _check_shape(config: dict[str, Any], w_enc: Tensor, file: Path) -> None:
    """The configuration's own numbers; they are redundant, so a difference means files that do not belong together."""
    width, d_in = w_enc.shape
    stated_d_in = config.get("d_in", d_in)
    stated_width = config["num_latents"] or stated_d_in * integer_of(config, "expansion_factor", file)
    if (stated_width, stated_d_in) != (width, d_in):
        raise WeightsError(
            f"{file}: it says {stated_width} latents of {stated_d_in} dimensions, but encoder.weight beside it has "
            f"shape {(width, d_in)}; the files do not belong together, or the matrix is transposed"
        )


def _placement(path: str, settings: CoderSettings) -> Placement:
    if settings.side == "output":
        return Placement((Site(path),))
    return Placement((Site(path, "input"),), target=Site(path))
