"""Gemma Scope 2: `{site}/layer_{N}_width_{W}_l0_{size}/params.safetensors` and `config.json`, JumpReLU, of Gemma 3.

Source: huggingface.co/google/gemma-scope-2-*. As Gemma Scope, with lower-case names. `config.json` says where it reads,
in Hugging Face's own words (`model.layers.17.output`); where there is none, the directories' names do, as SAELens reads
them. Here the MLP's input is the norm's output, gain included. Skip connections are stored [d_in, d_out].

A cross-layer transcoder (`params_layer_{i}.safetensors`, w_dec [width, n_layers, d_out]) has its encoders each on one
layer, and so they are attached; the sum of a feature's decoder rows is its direction, to be looked at and not to
reconstruct with. Crosscoders (w_dec [width, d_out] in `params_layer_{i}`) are refused: how their files share biases and
thresholds is not documented.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.families._activation_names import check_activation
from sae_auto_interp.autoencoders.files import (
    Chosen,
    chosen_of,
    files_below,
    matrix_of,
    names_of,
    read_json,
    read_safetensors,
    refuse_unread,
    required_file,
    safetensors_shapes,
    sum_over_middle,
    tensor_of,
)
from sae_auto_interp.autoencoders.options import CoderOptions
from sae_auto_interp.autoencoders.placing import Listed, Placed, Writes, placed_coders
from sae_auto_interp.autoencoders.settings import CoderClaims, CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.errors import InputError, WeightsError
from sae_auto_interp.models.sites.site import Placement
from sae_auto_interp.models.sites.site_names import resolve_site

_TENSORS = {"w_enc", "w_dec", "b_enc", "b_dec", "threshold"}
FILES = ("params.safetensors", "params_layer_*.safetensors")
_BEFORE_MLP = "model.layers.{}.pre_feedforward_layernorm.output"
_AFTER_MLP = "model.layers.{}.post_feedforward_layernorm.output"
_INFERRED: dict[str, tuple[str, str | None]] = {
    "transcoder": (_BEFORE_MLP, _AFTER_MLP),
    "clt": (_BEFORE_MLP, _AFTER_MLP),
    "resid_post": ("model.layers.{}.output", None),
    "attn_out": ("model.layers.{}.self_attn.o_proj.input", None),
    "mlp_out": (_AFTER_MLP, None),
}
"""Part of a directory's name -> where it reads and what it reconstructs, if config.json does not say."""


def load_gemma_scope_2_autoencoders(model: Any, names: Chosen, weight_dir: str | Path) -> dict[str, Any]:
    """Attach the coders in `weight_dir`; returns {module path: submodule}.

    `names` are directories below it (`resid_post/layer_9_width_16k_l0_small`), or files of a cross-layer transcoder
    without their ending; None takes all. Raises `InputError` or `WeightsError`.
    """
    return attach(model, coders_in(model, Path(weight_dir), names_of(names)))


def recognise(root: Path) -> str | None:
    """What gives the family away."""
    for file in files_below(root, *FILES):
        if safetensors_shapes(file).keys() >= _TENSORS:
            return f"it holds {file.name} with {', '.join(sorted(_TENSORS))}"
    return None


def coders_in(model: Any, root: Path, chosen: Sequence[str] | None, options: CoderOptions | None = None) -> Placed:
    """`chosen` are directories below `root`, or files without their ending."""
    if not root.exists():
        raise InputError(f"Gemma Scope 2 autoencoders: there is no {root}")
    found = {_name(root, file): file for file in files_below(root, *FILES)}
    listed = [
        Listed(name, partial(placement, model, file), partial(read, file), _writes(file))
        for name, file in chosen_of(found, chosen, "Gemma Scope 2", root).items()
    ]
    return placed_coders(model, listed, "Gemma Scope 2", chosen, options)


def read(path: Path) -> SparseCoder:
    """Read a directory's `params.safetensors`, or one layer's file of a cross-layer transcoder."""
    file = required_file(path if path.suffix else path / "params.safetensors", "Gemma Scope 2 autoencoder")
    config = _known_config(file)
    is_cross_layer = _is_cross_layer(file)
    state = read_safetensors(file, leave_out=("w_dec",) if is_cross_layer else ())
    skip = state.get("affine_skip_connection")
    weights = CoderWeights(
        w_enc=matrix_of(state, "w_enc", file).T, b_enc=tensor_of(state, "b_enc", file),
        w_dec=_summed_decoder(file) if is_cross_layer else matrix_of(state, "w_dec", file),
        b_dec=_one_row(tensor_of(state, "b_dec", file), file, is_cross_layer),
        threshold=tensor_of(state, "threshold", file),
        w_skip=None if skip is None else matrix_of(state, "affine_skip_connection", file).T,
    )  # fmt: skip
    refuse_unread(state, _TENSORS | {"affine_skip_connection"}, file)
    settings = CoderSettings(
        activation="jumprelu", subtract_b_dec=False, prepend_bos=True, family="gemma_scope_2", source=str(path),
        claims=_claims(config), reconstructs=not is_cross_layer,
    )  # fmt: skip
    return SparseCoder(weights, settings)


def placement(model: Any, file: Path) -> Placement:
    """Where the coder in a file belongs: as its config says, verbatim."""
    config = _config(file)
    read_at, written_at = config.get("hf_hook_point_in"), config.get("hf_hook_point_out")
    target = None if written_at in (None, read_at) else resolve_site(model, str(written_at))
    return Placement((resolve_site(model, str(read_at)),), target)


def _name(root: Path, file: Path) -> str:
    if root.is_file():
        return root.name
    named = file.parent if file.name == "params.safetensors" else file.with_suffix("")
    return named.relative_to(root).as_posix() if named != root else root.name


def _config(file: Path) -> dict[str, Any]:
    """What config.json says, completed by what the directories' names say."""
    beside = file.parent / "config.json"
    config = read_json(beside) if beside.is_file() else {}
    if config.get("architecture", "jump_relu") != "jump_relu":
        raise WeightsError(f"{beside}: architecture is {config['architecture']!r}; Gemma Scope 2 has 'jump_relu'")
    check_activation(config, ("jump_relu",), beside)
    if file.name == "params.safetensors" and config.get("hf_hook_point_in"):
        return config
    return config | _inferred(file)


def _known_config(file: Path) -> dict[str, Any]:
    """As `_config`; nothing where neither config.json nor a directory's name says where it reads."""
    try:
        return _config(file)
    except WeightsError:
        raise
    except InputError:
        return {}


def _writes(file: Path) -> Writes:
    config = _known_config(file)
    return "what it reads" if config.get("hf_hook_point_out") in (None, config.get("hf_hook_point_in")) else "elsewhere"


def _inferred(file: Path) -> dict[str, Any]:
    """Read the layer from the file's name, which alone tells it for cross-layer transcoders."""
    parts = file.absolute().with_suffix("").parts if file.name != "params.safetensors" else file.absolute().parent.parts
    layer = next((match[1] for part in reversed(parts) if (match := re.search(r"layer_(\d+)", part))), None)
    kind = next((kind for part in reversed(parts) for kind in _INFERRED if kind in part), None)
    if layer is None or kind is None:
        raise InputError(
            f"{file}: no config.json with hf_hook_point_in says where it reads, nor do the directories' names; "
            f"they should hold layer_N and one of {', '.join(_INFERRED)}"
        )
    read_at, written_at = _INFERRED[kind]
    repository = next((part for part in reversed(parts) if "gemma-scope-2-" in part), "")
    model = re.search(r"gemma-scope-2-(\w+)-(pt|it)", repository)
    return {
        "hf_hook_point_in": read_at.format(layer), "hf_hook_point_out": written_at and written_at.format(layer),
        **({"model_name": f"google/gemma-3-{model[1]}-{model[2]}"} if model else {}),
    }  # fmt: skip


def _is_cross_layer(file: Path) -> bool:
    shape = safetensors_shapes(file).get("w_dec", ())
    if len(shape) == 2 and file.name != "params.safetensors":
        raise WeightsError(
            f"{file}: is one layer of a crosscoder, whose layers share their features; crosscoders of Gemma Scope 2 "
            "are not read"
        )
    return len(shape) == 3


def _summed_decoder(file: Path) -> Float[Tensor, "width d_out"]:
    return sum_over_middle(file, "w_dec")


def _one_row(b_dec: Tensor, file: Path, is_cross_layer: bool) -> Float[Tensor, " d_out"]:
    """A cross-layer transcoder may store the bias of each layer that it writes to; its own is not told apart."""
    if b_dec.ndim < 2 or (b_dec.ndim == 2 and b_dec.shape[0] == 1):
        return b_dec.flatten()
    if b_dec.ndim > 2 or not is_cross_layer:
        raise WeightsError(f"{file}: 'b_dec' has shape {tuple(b_dec.shape)}")
    return torch.zeros(b_dec.shape[1])


def _claims(config: dict[str, Any]) -> CoderClaims:
    l0, name = config.get("l0"), config.get("model_name")
    if isinstance(name, str):
        name = (name if "/" in name else f"google/{name}").replace("-v3", "-3")
        name = name.replace("-pt", "") if "270m" in name else name
    return CoderClaims(
        model=name, l0=float(l0) if isinstance(l0, int | float) else None, hook=config.get("hf_hook_point_in")
    )
