"""Crosscoders: one code for what several places of a model hold at a position. `cfg.json` and `cc_weights.pt`.

Source: Lindsey et al. 2024 (transformer-circuits.pub/2024/crosscoders); the layout is that of github.com/ckkissane's
crosscoder-model-diff-replication: W_enc [places, d, width], W_dec [width, places, d], b_dec [places, d]. The code is
ReLU(sum over places of x_i @ W_enc[i] + b_enc), which is one matrix product with the places' vectors side by side: so a
crosscoder is a `SparseCoder` of places · d dimensions, attached at the deepest of its places.

`cfg.json` names the places (`hook_points`, in the order of the forward pass). Crosscoders in this layout that were
trained on two models have a single `hook_point` and are refused: what fires in them depends on both models.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from sae_auto_interp.autoencoders.attach import attach
from sae_auto_interp.autoencoders.families._activation_names import check_activation
from sae_auto_interp.autoencoders.files import (
    by_name,
    chosen_of,
    files_below,
    names_of,
    read_json,
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
from sae_auto_interp.errors import InputError, WeightsError
from sae_auto_interp.models.sites.hook_names import sites_in_order
from sae_auto_interp.models.sites.site import Placement, Site
from sae_auto_interp.models.sites.site_names import resolve_site

_WEIGHTS = "cc_weights.pt"
FILES = (_WEIGHTS,)
_TENSORS = {"W_enc", "W_dec", "b_enc", "b_dec"}


def load_crosscoder(model: Any, hooks: str | Sequence[str] | None, directory: str | Path) -> dict[str, Any]:
    """Attach the crosscoder in `directory`; returns {module path of its deepest place: submodule}.

    `hooks` are its places, in the order of its weights and of the forward pass; None takes those of its config. Raises
    `InputError` or `WeightsError`.
    """
    return attach(model, {placement(model, Path(directory), names_of(hooks)): read(Path(directory))})


def recognise(root: Path) -> str | None:
    """What gives the family away."""
    for file in files_below(root, _WEIGHTS):
        if len(torch_file_shapes(file).get("W_enc", ())) == 3:
            return f"it holds {file.name} with W_enc of three dimensions"
    return None


def coders_in(model: Any, root: Path, chosen: Sequence[str] | None, options: CoderOptions | None = None) -> Placed:
    """`chosen` are directories below `root`; `site` names all places of the one that is there."""
    if not root.exists():
        raise InputError(f"crosscoders: there is no {root}")
    directories = [file.parent for file in files_below(root, _WEIGHTS)]
    chosen_ones = chosen_of(by_name(root, directories), chosen, "crosscoder", root)
    options = options or CoderOptions()
    if options.sites is not None and len(chosen_ones) > 1:
        raise InputError(
            f"{options.where}.site is for one, but {root} holds {', '.join(chosen_ones)}; choose by module_paths"
        )
    listed = [Listed(n, partial(placement, model, d, options.sites), partial(read, d)) for n, d in chosen_ones.items()]
    return placed_coders(model, listed, "crosscoder", chosen, replace(options, site=None))


def read(directory: Path) -> SparseCoder:
    """Read one crosscoder's directory; executes no pickled code."""
    file = required_file(directory / _WEIGHTS, "crosscoder")
    state = read_torch_file(file)
    w_enc, w_dec, b_dec = (tensor_of(state, name, file) for name in ("W_enc", "W_dec", "b_dec"))
    if w_enc.ndim != 3 or w_dec.ndim != 3 or b_dec.ndim != 2 or w_dec.shape[1:] != b_dec.shape:
        shapes = [tuple(t.shape) for t in (w_enc, w_dec, b_dec)]
        raise WeightsError(
            f"{file}: W_enc, W_dec and b_dec have shapes {shapes}; expected [places, d, width], [width, places, d] and "
            "[places, d]"
        )
    weights = CoderWeights(
        w_enc=w_enc.flatten(0, 1).T, b_enc=tensor_of(state, "b_enc", file), w_dec=w_dec.flatten(1, 2),
        b_dec=b_dec.flatten(),
    )  # fmt: skip
    refuse_unread(state, _TENSORS, file)
    config = read_json(directory / "cfg.json") if (directory / "cfg.json").is_file() else {}
    check_activation(config, ("relu",), directory / "cfg.json")
    hook = ", ".join(_hooks(directory)) if {"hook_points", "hook_point"} & config.keys() else None
    settings = CoderSettings(
        activation="relu", subtract_b_dec=False, prepend_bos=True, family="crosscoder", source=str(directory),
        claims=CoderClaims(model=config.get("model_name"), hook=hook),
    )  # fmt: skip
    return SparseCoder(weights, settings)


def placement(model: Any, directory: Path, hooks: Sequence[str] | None = None) -> Placement:
    """The places that a crosscoder reads. Raises `InputError` for one over several models."""
    file = required_file(directory / _WEIGHTS, "crosscoder")
    n = (torch_file_shapes(file).get("W_enc") or tensor_of(read_torch_file(file), "W_enc", file).shape)[0]
    hooks = _hooks(directory) if hooks is None else list(hooks)
    if len(hooks) == 1 and n > 1:
        raise InputError(
            f"{directory} was trained on {n} models, which all read {hooks[0]}; a crosscoder over several models "
            "is not read. If they are several places of one model, name them: site: [...] in the run file, or "
            "load_crosscoder(model, [...], directory)"
        )
    if len(hooks) != n:
        raise InputError(f"{directory} reads {n} places, but {len(hooks)} are named: {', '.join(hooks)}")
    sites = [resolve_site(model, hook) for hook in hooks]
    _check_order(model, sites, hooks, directory)
    return Placement(tuple(sites))


def _check_order(model: Any, sites: Sequence[Site], hooks: Sequence[str], directory: Path) -> None:
    """Raise `InputError` where a place is named behind one that the forward pass reaches later: the weights are in the
    order of the names, and the coder is computed at the last."""
    ranks = {site: place for place, site in enumerate(sites_in_order(model))}
    known = [(ranks[site], hook) for site, hook in zip(sites, hooks, strict=True) if site in ranks]
    for (earlier, before), (later, after) in pairwise(known):
        if earlier >= later:
            raise InputError(
                f"{directory}: its places are named as {', '.join(hooks)}, but the forward pass reaches {after} "
                f"{'no later than' if earlier == later else 'before'} {before}; they must be in its order, each once. "
                "If the config lists them otherwise than the weights have them, name them: "
                "load_crosscoder(model, [...], directory)"
            )


def _hooks(directory: Path) -> list[str]:
    file = required_file(directory / "cfg.json", "crosscoder")
    config = read_json(file)
    hooks = config.get("hook_points", config.get("hook_point"))
    hooks = [hooks] if isinstance(hooks, str) else hooks
    if not isinstance(hooks, list) or not hooks or not all(isinstance(hook, str) for hook in hooks):
        raise WeightsError(f"{file}: hook_points is {hooks!r}, but must be a list of hook names")
    return hooks
