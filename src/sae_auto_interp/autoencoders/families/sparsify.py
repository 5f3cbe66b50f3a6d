"""EleutherAI's sparsify weights: `{module path}/cfg.json` and `sae.safetensors`.

Source: github.com/EleutherAI/sparsify. The directory's name is the module's path below the base model (`h.3`,
`layers.5.mlp`), with `seedN` below it where several were trained. `encoder.weight` [width, d_in] and `W_dec`
[width, d_out] both have latents as rows; pre-activations pass a ReLU before the top k. An autoencoder reads what the
module gives, minus b_dec; a transcoder reads what the module reads, as it is, and reconstructs what the module gives.
What a cfg.json does not say is sparsify's own default; files of its first version may say `signed`, which then has no
ReLU and keeps the k entries of largest absolute value.

Where sparsify puts its files: directories named after modules, and above them one configuration of the run.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.files import (
    Chosen,
    flag_of,
    integer_of,
    matrix_of,
    names_of,
    read_json,
    read_safetensors,
    refuse_unread,
    required_file,
    tensor_of,
)
from sae_auto_interp.autoencoders.options import CoderOptions
from sae_auto_interp.autoencoders.placing import Listed, Placed, placed_coders
from sae_auto_interp.autoencoders.settings import Activation, CoderClaims, CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.errors import InputError, WeightsError
from sae_auto_interp.models.sites.module_paths import resolve_module_path
from sae_auto_interp.models.sites.site import Placement, Site

FILES = ("sae.safetensors",)
_SEED = re.compile(r"seed\d+")


RUN_DIRECTORIES_ABOVE = 3
"""How far above a module's directory the configuration of the run is looked for."""


def coder_directories(root: Path, chosen: Sequence[str] | None) -> list[Path]:
    """The directories of `chosen` modules; None: all in `root`, or `root` itself if it is one."""
    if root.is_file():
        return [root.parent]
    if not root.is_dir():
        raise InputError(f"sparsify autoencoders: there is no directory {root}")
    if chosen is not None:
        return [directory for name in chosen for directory in _with_seeds(root / name)]
    found = sorted(p.parent for p in root.rglob("cfg.json") if (p.parent / "sae.safetensors").exists())
    if not found:
        raise InputError(f"sparsify autoencoders: {root} holds no directory with a cfg.json and a sae.safetensors")
    return found


def module_path(model: Any, directory: Path) -> str:
    """The module that a directory is named after: in sparsify's words, dots; older scripts nested directories."""
    parts = list(directory.absolute().parts[1:])
    if _SEED.fullmatch(parts[-1]):
        parts.pop()
    for n in range(1, len(parts) + 1):
        name = ".".join(parts[-n:])
        if _is_module(model, name):
            return name
    return parts[-1]


def claims_of_run(directory: Path, k: int) -> CoderClaims:
    """What the run's config.json, in one of the directories above, says of the model and the data."""
    name = directory.parent.name if _SEED.fullmatch(directory.name) else directory.name
    for above in list(directory.absolute().parents)[:RUN_DIRECTORIES_ABOVE]:
        file = above / "config.json"
        run = read_json(file) if file.is_file() else {}
        if isinstance(run.get("model"), str) and ("sae" in run or "hookpoints" in run):
            return CoderClaims(run["model"], float(k), name, run.get("ctx_len"), run.get("dataset"))
    return CoderClaims(l0=float(k), hook=name)


def _with_seeds(directory: Path) -> list[Path]:
    """The directory, or those of the seeds in it."""
    seeds = sorted(p.parent for p in directory.glob("seed*/cfg.json") if _SEED.fullmatch(p.parent.name))
    return seeds if seeds and not (directory / "cfg.json").exists() else [directory]


def _is_module(model: Any, name: str) -> bool:
    try:
        resolve_module_path(model, name)
    except InputError:  # unknown, or ambiguous: with one more part it may not be
        return False
    return True


DEFAULTS: dict[str, Any] = {"activation": "topk", "k": 32, "num_latents": 0, "expansion_factor": 32}
_TENSORS = {"encoder.weight", "encoder.bias", "W_dec", "b_dec"}


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


def coders_in(model: Any, root: Path, chosen: Sequence[str] | None, options: CoderOptions | None = None) -> Placed:
    """`chosen` are names of directories: module paths, and `seedN` after a slash where there are several."""
    listed = [_listed(model, directory) for directory in coder_directories(root, chosen)]
    return placed_coders(model, listed, "sparsify", chosen, options)


def read(directory: Path) -> SparseCoder:
    """Read one module's directory."""
    config_file = required_file(directory / "cfg.json", "sparsify autoencoder")
    config = DEFAULTS | read_json(config_file)
    file = required_file(directory / "sae.safetensors", "sparsify autoencoder")
    state = read_safetensors(file)
    is_transcoder = flag_of(config, "transcode", config_file)
    has_skip = flag_of(config, "skip_connection", config_file)
    weights = CoderWeights(
        w_enc=matrix_of(state, "encoder.weight", file),
        b_enc=tensor_of(state, "encoder.bias", file),
        w_dec=matrix_of(state, "W_dec", file),
        b_dec=tensor_of(state, "b_dec", file),
        w_skip=matrix_of(state, "W_skip", file) if has_skip else None,
    )
    refuse_unread(state, _TENSORS | ({"W_skip"} if has_skip else set()), file)
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


def _listed(model: Any, directory: Path) -> Listed:
    coder = read(directory)
    is_transcoder = coder.settings.side == "input"
    return Listed(
        "/".join(directory.parts[-2:]),
        lambda: _placement(resolve_module_path(model, module_path(model, directory)), coder.settings),
        lambda: coder,
        "its module's output" if is_transcoder else "what it reads",
    )


def _activation(config: dict[str, Any], file: Path) -> Activation:
    name = config["activation"]
    if not isinstance(name, str) or name not in _ACTIVATIONS:
        raise WeightsError(f"{file}: activation is {name!r}; sparsify has {', '.join(_ACTIVATIONS)}")
    return "abstopk" if flag_of(config, "signed", file) else _ACTIVATIONS[name]


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
