"""Weights of `dictionary_learning` (Marks, Karvonen, Mueller): `trainer_{i}/ae.pt` and `config.json` beside it.

Source: github.com/saprmarks/dictionary_learning. `trainer.dict_class` says which class wrote `ae.pt` (pickled tensors
only; nothing else is loaded), `buffer.io` which side of the module was read. In training with normalised activations
(`norm_factor`) the biases were scaled back before saving, so raw activations are encoded. A batch top k depends on the
batch, so BatchTopK and Matryoshka use the threshold estimated in training; where it never was (-1), the top k of each
position. `AutoEncoder.from_pretrained` of the family rescales to decoder columns of norm 1 unless told not to, which
changes the size of codes; so it is here.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.families._activation_names import check_activation
from sae_auto_interp.autoencoders.families._folding import decoder_norms, with_unit_decoder
from sae_auto_interp.autoencoders.files import (
    DEPTH,
    Chosen,
    files_below,
    matrix_of,
    names_of,
    read_json,
    read_torch_file,
    refuse_unread,
    require_size,
    required_file,
    tensor_of,
)
from sae_auto_interp.autoencoders.options import CoderOptions, Reading
from sae_auto_interp.autoencoders.placing import Listed, Placed, placed_coders
from sae_auto_interp.autoencoders.settings import Activation, CoderClaims, CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder, check_shapes
from sae_auto_interp.errors import InputError, UnknownNameError, WeightsError
from sae_auto_interp.models.sites.hook_names import EMBEDDING_HOOK
from sae_auto_interp.models.sites.module_paths import resolve_module_path
from sae_auto_interp.models.sites.published_sites import DICTIONARY_HOOKS
from sae_auto_interp.models.sites.site import Placement, Site
from sae_auto_interp.models.sites.site_names import resolve_site

FILES = ("*.pt",)
OPTIONS = ("reading",)


def load_sam_autoencoders(
    model: Any, layers_or_modules: Chosen, weight_dir: str | Path, *, reading: Reading | None = None
) -> dict[str, Any]:
    """Attach the dictionaries in `weight_dir` for the given layers or module paths; returns {module path: submodule}.

    A name may also be a directory below `weight_dir` that holds an `ae.pt` (`resid_post_layer_8/trainer_0`), to choose
    among several for one place, or a checkpoint below one (`trainer_0/checkpoints/ae_500.pt`). None takes all. Raises
    `InputError` for what is missing or ambiguous and `WeightsError` for weights that do not fit.
    """
    options = CoderOptions(reading=reading)
    return attach(model, coders_in(model, Path(weight_dir), names_of(layers_or_modules), options))


def recognise(root: Path) -> str | None:
    """What gives the family away."""
    for file in [root] if root.suffix == ".pt" else files_below(root, "ae.pt"):
        config = _config_of(file)
        if config is not None and config.is_file() and "dict_class" in _section(read_json(config), "trainer"):
            return f"it holds {file.name}, and {config.name} names a dict_class"
    return None


def coders_in(model: Any, root: Path, chosen: Sequence[str] | None, options: CoderOptions | None = None) -> Placed:
    """`chosen` are layer numbers, module paths, or directories."""
    if not root.exists():
        raise InputError(f"dictionary_learning autoencoders: there is no directory {root}")
    files = [root] if root.is_file() else files_below(root, "ae.pt")
    if not files:
        raise InputError(f"dictionary_learning autoencoders: no ae.pt in {root} or up to {DEPTH} directories below it")
    if chosen is not None and not root.is_file():
        files = [file for name in chosen for file in _named(model, root, files, name)]
    reading = None if options is None else options.reading
    listed = [_listed(model, root, file, reading) for file in files]
    return placed_coders(model, listed, "dictionary_learning", chosen, options)


def read(path: Path, reading: Reading | None = None) -> SparseCoder:
    """Read a directory's `ae.pt`, or a file."""
    file = required_file(path if path.suffix == ".pt" else path / "ae.pt", "dictionary_learning autoencoder")
    config = _read_config(file)
    trainer = _section(config, "trainer")
    name = str(trainer.get("dict_class"))
    if name not in _CLASSES:
        raise UnknownNameError(f"dict_class (of {file})", name, _CLASSES)
    check_activation(trainer, _FUNCTIONS, file)
    reading = reading or Reading()
    state = read_torch_file(file)
    activation, k, weights = _CLASSES[name](state, file, reading)
    refuse_unread(state, _TENSORS[name], file)
    check_shapes(weights, str(file))
    for key, n in (("activation_dim", weights.w_enc.shape[1]), ("dict_size", len(weights.w_enc))):
        require_size(trainer, key, n, file)
    if reading.scale_by_decoder_norm:
        weights = with_unit_decoder(weights, activation, str(file))
    settings = CoderSettings(
        activation=activation, k=k, relu_before_topk=activation == "topk",
        subtract_b_dec=name not in ("AutoEncoderNew", "JumpReluAutoEncoder"),
        prepend_bos=True, family="dictionary_learning", source=str(path), claims=_claims(config),
    )  # fmt: skip
    return SparseCoder(weights, settings)


def read_with(path: Path, options: CoderOptions) -> SparseCoder:
    """As `read`, with what a run file says."""
    return read(path, options.reading)


def placement(model: Any, config: dict[str, Any], where: Path) -> Placement:
    """Where the submodule of a config is in `model`, and which of its sides was read."""
    trainer, io = _section(config, "trainer"), _section(config, "buffer").get("io", "out")
    output = _output_site(model, trainer, where)
    before = Site(output.module_path, "input")
    if io == "in_and_out":
        return Placement((before,), target=output)
    if io not in ("in", "out"):
        raise WeightsError(f"{where}: buffer.io is {io!r}; known: 'in', 'out', 'in_and_out'")
    return Placement((before if io == "in" else output,))


def _listed(model: Any, root: Path, file: Path, reading: Reading | None) -> Listed:
    config = _read_config(file)
    return Listed(
        _name(root, file),
        partial(placement, model, config, file),
        partial(read, file if file.name != "ae.pt" else file.parent, reading),
        "its module's output" if _section(config, "buffer").get("io") == "in_and_out" else "what it reads",
    )


def _named(model: Any, root: Path, files: Sequence[Path], name: str) -> list[Path]:
    """The files that a layer, a module path or a directory means."""
    below = root / name
    if below.is_file() or (below / "ae.pt").is_file():
        return [below if below.is_file() else below / "ae.pt"]
    if name.isdecimal():
        found = [f for f in files if _section(_read_config(f), "trainer").get("layer") == int(name)]
    else:
        path = resolve_module_path(model, name)
        found = [f for f in files if placement(model, _read_config(f), f).home == path]
    if not found:
        there = ", ".join(_name(root, file) for file in files[:8])
        raise InputError(f"dictionary_learning autoencoders: {root} has none for {name!r}; it holds {there}")
    return found


def _name(root: Path, file: Path) -> str:
    named = file.parent if file.name == "ae.pt" else file
    return named.relative_to(root).as_posix() if named != root else root.name


def _output_site(model: Any, trainer: dict[str, Any], where: Path) -> Site:
    name, layer = trainer.get("submodule_name"), trainer.get("layer")
    match = re.fullmatch(r"(embed|[a-z_]*?)_?(?:layer_?)?(\d*)", str(name or "resid_post"))
    if match and match[1] == "embed":
        return resolve_site(model, EMBEDDING_HOOK)
    hook = DICTIONARY_HOOKS.get(match[1]) if match else None
    if match is None or hook is None:
        return resolve_site(model, str(name))
    number = match[2] or layer
    if number is None:
        raise WeightsError(f"{where}: its config says neither a layer nor a submodule_name with one")
    return resolve_site(model, f"blocks.{number}.{hook}")


def _config_of(file: Path) -> Path | None:
    """`config.json` beside the file, or above its directory of checkpoints."""
    places = [file.parent, *([file.parent.parent] if file.parent.name == "checkpoints" else [])]
    return next((place / "config.json" for place in places if (place / "config.json").is_file()), None)


def _read_config(file: Path) -> dict[str, Any]:
    return read_json(_config_of(file) or required_file(file.parent / "config.json", "dictionary_learning autoencoder"))


def _section(config: dict[str, Any], name: str) -> dict[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def _claims(config: dict[str, Any]) -> CoderClaims:
    trainer, buffer = _section(config, "trainer"), _section(config, "buffer")
    k, ctx_len = trainer.get("k", trainer.get("target_l0")), buffer.get("ctx_len")
    return CoderClaims(
        model=trainer.get("lm_name"), l0=float(k) if isinstance(k, int | float) else None,
        hook=trainer.get("submodule_name"), ctx_len=ctx_len if isinstance(ctx_len, int) else None,
    )  # fmt: skip


_FUNCTIONS = ("relu", "jumprelu", "topk", "batchtopk", "gated")
"""What its classes compute; which of them, the class says."""
_Parts = tuple[Activation, int | None, CoderWeights]


def _linear(state: dict[str, Any], file: Path, bias: str, *, has_bias: bool = True) -> CoderWeights:
    """Classes made of two `nn.Linear`; gated ones have no bias in the encoder."""
    w_enc = matrix_of(state, "encoder.weight", file)
    return CoderWeights(
        w_enc=w_enc,
        b_enc=tensor_of(state, "encoder.bias", file) if has_bias else torch.zeros(len(w_enc)),
        w_dec=matrix_of(state, "decoder.weight", file).T,
        b_dec=tensor_of(state, bias, file),
    )


def _matrices(state: dict[str, Any], file: Path) -> CoderWeights:
    """Classes made of `W_enc` and `W_dec`, both for row vectors."""
    return CoderWeights(
        w_enc=matrix_of(state, "W_enc", file).T, b_enc=tensor_of(state, "b_enc", file),
        w_dec=matrix_of(state, "W_dec", file), b_dec=tensor_of(state, "b_dec", file),
    )  # fmt: skip


def _auto_encoder(state: dict[str, Any], file: Path, reading: Reading) -> _Parts:
    weights = _linear(state, file, "bias")
    norms = decoder_norms(weights)
    is_kept = not reading.normalise_decoder or torch.allclose(norms, torch.ones_like(norms))
    return "relu", None, weights if is_kept else with_unit_decoder(weights, "relu", str(file))


def _auto_encoder_new(state: dict[str, Any], file: Path, _reading: Reading) -> _Parts:
    return "relu", None, _linear(state, file, "decoder.bias")


def _gated(state: dict[str, Any], file: Path, _reading: Reading) -> _Parts:
    """1[u + gate_bias > 0] · ReLU(exp(r_mag) · u + mag_bias), of u = (x - decoder_bias) @ W_enc.T."""
    weights = replace(
        _linear(state, file, "decoder_bias", has_bias=False), threshold=-tensor_of(state, "gate_bias", file),
        gain=tensor_of(state, "r_mag", file).exp(), offset=tensor_of(state, "mag_bias", file),
    )  # fmt: skip
    return "gated", None, weights


def _jump_relu(state: dict[str, Any], file: Path, _reading: Reading) -> _Parts:
    return "jumprelu", None, replace(_matrices(state, file), threshold=tensor_of(state, "threshold", file))


def _top_k(state: dict[str, Any], file: Path, _reading: Reading) -> _Parts:
    """Its saved threshold is not used by the family's `encode`."""
    return "topk", _k(state, file), _linear(state, file, "b_dec")


def _batch_top_k(state: dict[str, Any], file: Path, _reading: Reading) -> _Parts:
    return _with_threshold(state, file, _linear(state, file, "b_dec"))


def _matryoshka(state: dict[str, Any], file: Path, reading: Reading) -> _Parts:
    """Features beyond the active groups take part in the selection, and are then left out."""
    activation, k, weights = _with_threshold(state, file, _matrices(state, file))
    sizes: Any = state.get("group_sizes")
    is_sizes = isinstance(sizes, Tensor) and sizes.ndim == 1 and not sizes.is_floating_point()
    if not is_sizes or int(sizes.min()) < 0 or int(sizes.sum()) != len(weights.w_enc):
        raise WeightsError(f"{file}: 'group_sizes' does not add up to the width of {len(weights.w_enc)}")
    n = len(sizes) if reading.active_groups is None else reading.active_groups
    if not 1 <= n <= len(sizes):
        raise InputError(f"active_groups={n}, but {file} has {len(sizes)} groups")
    if n == len(sizes):
        return activation, k, weights
    gain = (torch.arange(len(weights.w_enc)) < int(sizes[:n].sum())).float()
    return activation, k, replace(weights, gain=gain, offset=torch.zeros_like(gain))


def _with_threshold(state: dict[str, Any], file: Path, weights: CoderWeights) -> _Parts:
    threshold = tensor_of(state, "threshold", file)
    if threshold.numel() != 1:
        raise WeightsError(f"{file}: 'threshold' has shape {tuple(threshold.shape)}, but must be one number")
    if float(threshold) < 0:
        return "topk", _k(state, file), weights
    return "jumprelu", None, replace(weights, threshold=threshold.float().expand(len(weights.w_enc)))


def _k(state: dict[str, Any], file: Path) -> int:
    k: Any = state.get("k")
    if not isinstance(k, Tensor) or k.numel() != 1 or k.is_floating_point() or k.dtype == torch.bool:
        raise WeightsError(f"{file}: 'k' is {k!r}, but must be one whole number")
    return int(k)


_CLASSES: dict[str, Callable[[dict[str, Any], Path, Reading], _Parts]] = {
    "AutoEncoder": _auto_encoder, "AutoEncoderNew": _auto_encoder_new, "GatedAutoEncoder": _gated,
    "JumpReluAutoEncoder": _jump_relu, "AutoEncoderTopK": _top_k, "BatchTopKSAE": _batch_top_k,
    "MatryoshkaBatchTopKSAE": _matryoshka,
}  # fmt: skip
_LINEAR = {"encoder.weight", "encoder.bias", "decoder.weight"}
_TOP_K = {"k", "threshold"}
_TENSORS: dict[str, set[str]] = {
    "AutoEncoder": {*_LINEAR, "bias"},
    "AutoEncoderNew": {*_LINEAR, "decoder.bias"},
    "GatedAutoEncoder": {"decoder_bias", "encoder.weight", "decoder.weight", "r_mag", "gate_bias", "mag_bias"},
    "JumpReluAutoEncoder": {"W_enc", "b_enc", "W_dec", "b_dec", "threshold"},
    "AutoEncoderTopK": {*_LINEAR, "b_dec", *_TOP_K},
    "BatchTopKSAE": {*_LINEAR, "b_dec", *_TOP_K},
    "MatryoshkaBatchTopKSAE": {"W_enc", "b_enc", "W_dec", "b_dec", "group_sizes", *_TOP_K},
}
"""All that each class saves."""
