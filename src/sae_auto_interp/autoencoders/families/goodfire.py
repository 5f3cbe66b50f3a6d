"""Single-file ReLU autoencoders of two linear layers: Goodfire's, and qresearch's of DeepSeek R1.

Source: huggingface.co/Goodfire/Llama-3.1-8B-Instruct-SAE-l19, qresearch/DeepSeek-R1-Distill-Llama-8B-SAE-l19.
Goodfire calls the layers `encoder_linear` and `decoder_linear`, qresearch `encoder` and `decoder`; else they are the
same, and nothing is subtracted from the input. Which layer's residual stream they read is in the file's name alone
(`...-SAE-l19.pth`), so it must be there, or be given.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.families import dictionary_learning
from sae_auto_interp.autoencoders.files import (
    chosen_of,
    matrix_of,
    read_torch_file,
    required_file,
    tensor_of,
    torch_file_shapes,
)
from sae_auto_interp.autoencoders.options import CoderOptions
from sae_auto_interp.autoencoders.placing import Listed, Placed, placed_coders
from sae_auto_interp.autoencoders.settings import CoderClaims, CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.errors import InputError, WeightsError
from sae_auto_interp.models.sites.site import Placement
from sae_auto_interp.models.sites.site_names import resolve_site

FILES = ("*.pt", "*.pth")
_LAYERS = (("encoder_linear", "decoder_linear"), ("encoder", "decoder"))
_NAMED = re.compile(r"(?P<model>.+)-SAE-l(?P<layer>\d+)", re.IGNORECASE)


def load_goodfire_autoencoder(model: Any, module_path: str, file: str | Path) -> dict[str, Any]:
    """Attach the autoencoder in `file` to `module_path`; returns {module path: submodule}."""
    return attach(model, {resolve_site(model, module_path): read(Path(file))})


def recognise(root: Path) -> str | None:
    """What gives the family away; `AutoEncoderNew` of dictionary_learning has the same tensors, and a config."""
    if dictionary_learning.recognise(root):
        return None
    for file in _files(root).values():
        names = _names(torch_file_shapes(file))
        if names is not None:
            return f"it holds {file.name} with {names[0]}.weight and {names[1]}.weight alone"
    return None


def coders_in(model: Any, root: Path, chosen: Sequence[str] | None, options: CoderOptions | None = None) -> Placed:
    """`chosen` are names of files."""
    if not root.exists():
        raise InputError(f"Goodfire autoencoders: there is no {root}")
    files = chosen_of(_files(root), chosen, "Goodfire", root)
    listed = [Listed(name, partial(_placement, model, file), partial(read, file)) for name, file in files.items()]
    return placed_coders(model, listed, "Goodfire", chosen, options)


def read(file: Path) -> SparseCoder:
    """Latents are the rows of the encoder's weight and the columns of the decoder's; executes no pickled code."""
    state = read_torch_file(required_file(file, "Goodfire autoencoder"))
    names = _names(state)
    if names is None:
        known = " or ".join(f"{encoder}.* and {decoder}.*" for encoder, decoder in _LAYERS)
        raise WeightsError(f"{file}: holds {', '.join(sorted(state)[:8]) or 'nothing'}; expected {known}")
    encoder, decoder = names
    weights = CoderWeights(
        w_enc=matrix_of(state, f"{encoder}.weight", file), b_enc=tensor_of(state, f"{encoder}.bias", file),
        w_dec=matrix_of(state, f"{decoder}.weight", file).T, b_dec=tensor_of(state, f"{decoder}.bias", file),
    )  # fmt: skip
    named = _NAMED.search(file.stem)
    claims = CoderClaims(model=named["model"] if named else None, hook=_hook(named) if named else None)
    settings = CoderSettings(
        activation="relu", subtract_b_dec=False, prepend_bos=True, family="goodfire", source=str(file), claims=claims
    )
    return SparseCoder(weights, settings)


def _placement(model: Any, file: Path) -> Placement:
    named = _NAMED.search(file.stem)
    if named is None:
        raise InputError(
            f"{file}: which layer it reads is not in the file, nor in its name (...-SAE-l19.pth); "
            "give site in the run file, or use load_goodfire_autoencoder with a module path"
        )
    return Placement((resolve_site(model, _hook(named)),))


def _hook(named: re.Match[str]) -> str:
    return f"blocks.{named['layer']}.hook_resid_post"


def _files(root: Path) -> dict[str, Path]:
    files = [root] if root.is_file() else sorted(path for end in ("pt", "pth") for path in root.glob(f"*.{end}"))
    return {file.name: file for file in files if file.suffix in (".pt", ".pth")}


def _names(state: Any) -> tuple[str, str] | None:
    """What the two layers are called, if there is nothing beside them."""
    for encoder, decoder in _LAYERS:
        if set(state) == {f"{layer}.{part}" for layer in (encoder, decoder) for part in ("weight", "bias")}:
            return encoder, decoder
    return None
