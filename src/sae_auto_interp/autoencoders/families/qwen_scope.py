"""Qwen Scope: `layer{n}.sae.pt`, TopK, of the residual stream after block n of Qwen 3.

Source: huggingface.co/collections/Qwen/qwen-scope. The matrices are for column vectors: W_enc [width, d], W_dec
[d, width]. Nothing is subtracted from the input. How many entries are kept is in no file: the repository's name has it
(`SAE-Res-Qwen3-8B-Base-W64K-L0_50`), so it must be in a directory's name, or be given.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.files import (
    Chosen,
    chosen_of,
    matrix_of,
    names_of,
    read_torch_file,
    refuse_unread,
    required_file,
    tensor_of,
    torch_file_shapes,
)
from sae_auto_interp.autoencoders.options import CoderOptions
from sae_auto_interp.autoencoders.placing import Listed, Placed, placed_coders
from sae_auto_interp.autoencoders.settings import CoderClaims, CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.errors import InputError
from sae_auto_interp.models.sites.site import Placement
from sae_auto_interp.models.sites.site_names import resolve_site

FILES = ("layer*.sae.pt",)
_FILE = re.compile(r"layer(\d+)\.sae\.pt")
_REPOSITORY = re.compile(r"SAE-Res-(.+)-W\d+K-L0_(\d+)")
_TENSORS = {"W_enc", "W_dec", "b_enc", "b_dec"}


def load_qwen_scope_autoencoders(
    model: Any, layers: Chosen, weight_dir: str | Path, *, k: int | None = None
) -> dict[str, Any]:
    """Attach `weight_dir/layer{n}.sae.pt` for each layer (None: all); returns {module path: submodule}.

    `k` is how many entries are kept; None takes it from the directory's name. Raises `InputError` or `WeightsError`.
    """
    return attach(model, coders_in(model, Path(weight_dir), names_of(layers), CoderOptions(k=k)))


def recognise(root: Path) -> str | None:
    """What gives the family away."""
    for _, file in sorted(_files(root).items()):
        if torch_file_shapes(file).keys() >= _TENSORS:
            return f"it holds {file.name} with {', '.join(sorted(_TENSORS))}"
    return None


def coders_in(model: Any, root: Path, chosen: Sequence[str] | None, options: CoderOptions | None = None) -> Placed:
    """`chosen` are layer numbers."""
    if not root.exists():
        raise InputError(f"Qwen Scope autoencoders: there is no directory {root}")
    found = {str(layer): file for layer, file in sorted(_files(root).items())}
    files = chosen_of(found, chosen, "Qwen Scope", root)
    k = None if options is None else options.k

    def place(layer: str) -> Placement:
        return Placement((resolve_site(model, f"blocks.{layer}.hook_resid_post"),))

    listed = [Listed(file.name, partial(place, layer), partial(read, file, k)) for layer, file in files.items()]
    return placed_coders(model, listed, "Qwen Scope", chosen, options)


def read(file: Path, k: int | None = None) -> SparseCoder:
    """Read one `layer{n}.sae.pt`; executes no pickled code."""
    state = read_torch_file(required_file(file, "Qwen Scope autoencoder"))
    repository = _repository(file)
    k = k or (int(repository[2]) if repository else None)
    if k is None:
        raise InputError(
            f"{file}: how many entries are kept is not in the file, nor in a directory's name (SAE-Res-...-L0_50); "
            "give k in the run file, or use load_qwen_scope_autoencoders with k="
        )
    weights = CoderWeights(
        w_enc=matrix_of(state, "W_enc", file), b_enc=tensor_of(state, "b_enc", file),
        w_dec=matrix_of(state, "W_dec", file).T, b_dec=tensor_of(state, "b_dec", file),
    )  # fmt: skip
    refuse_unread(state, _TENSORS, file)
    name = _FILE.fullmatch(file.name)
    claims = CoderClaims(
        model=f"Qwen/{repository[1]}" if repository else None, l0=float(k),
        hook=f"model.layers.{name[1]}" if name else None,
    )  # fmt: skip
    settings = CoderSettings(
        activation="topk", k=k, subtract_b_dec=False, prepend_bos=True, family="qwen_scope", source=str(file),
        claims=claims,
    )  # fmt: skip
    return SparseCoder(weights, settings)


def read_with(file: Path, options: CoderOptions) -> SparseCoder:
    """As `read`, with what a run file says."""
    return read(file, options.k)


def _files(root: Path) -> dict[int, Path]:
    """{layer: file}"""
    files = [root] if root.is_file() else root.glob("layer*.sae.pt")
    return {int(match[1]): file for file in files if (match := _FILE.fullmatch(file.name))}


def _repository(file: Path) -> re.Match[str] | None:
    """The nearest directory that is called as the repositories are; also within the hub's `models--Qwen--...`."""
    found = (_REPOSITORY.search(part) for part in reversed(file.absolute().parts))
    return next((match for match in found if match), None)
