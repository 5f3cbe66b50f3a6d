"""Our own format: a coder of whatever family as it is in memory, weights, settings, claims and place.

    directory/coder.safetensors    the weights, float32, in canonical form (`CoderWeights`)
    directory/coder.json           everything else

What is read back is equal to the last bit, but for `settings.source`, which says where the files lie now. The place is
kept as it was resolved, in the module paths of the model that the coder was attached to; one that was never attached
has none, and is then put at the module that its directory is named after.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

from safetensors.torch import save_file
from torch import Tensor

from sae_auto_interp.autoencoders.coder import Coder
from sae_auto_interp.autoencoders.files import read_json, read_safetensors, required_file
from sae_auto_interp.autoencoders.options import CoderOptions
from sae_auto_interp.autoencoders.placing import Listed, Placed, placed_coders
from sae_auto_interp.autoencoders.settings import Activation, CoderClaims, CoderSettings, Normalisation
from sae_auto_interp.autoencoders.sparse_coder import WEIGHT_NAMES, CoderWeights, SparseCoder
from sae_auto_interp.errors import InputError, WeightsError
from sae_auto_interp.models.sites.module_paths import resolve_module_path
from sae_auto_interp.models.sites.site import Placement, Side, Site

FORMAT = "sae-auto-interp coder"
FORMAT_VERSION = 1
WEIGHTS_FILE, SETTINGS_FILE = "coder.safetensors", "coder.json"
FILES = (WEIGHTS_FILE,)


def save_autoencoder(coder: Coder, directory: str | Path) -> None:
    """Write `coder` into `directory`, which is made; `load_autoencoders` and `read` give the same coder back.

    Raises `InputError` for coders without weights of their own, as `NeuronCoder` and `CallableCoder`.
    """
    if not isinstance(coder, SparseCoder):
        raise InputError(f"a {type(coder).__name__} has no weights to save; only a SparseCoder has")
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_unshared(coder.state_dict()), folder / WEIGHTS_FILE)
    content = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "settings": asdict(coder.settings),
        "placement": None if coder.placement is None else asdict(coder.placement),
        "holds_value_bias": coder.holds_value_bias,
    }
    (folder / SETTINGS_FILE).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _unshared(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, each in memory of its own: the file format has no tensors that share it."""
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in state.items():
        own = value.cpu().contiguous()
        memory = own.untyped_storage().data_ptr()
        tensors[name] = own.clone() if memory in seen else own
        seen.add(memory)
    return tensors


def recognise(root: Path) -> str | None:
    """What gives the family away."""
    if root.is_file():
        return f"it is {WEIGHTS_FILE}" if root.name == WEIGHTS_FILE else None
    found = next(root.rglob(WEIGHTS_FILE), None)
    return None if found is None else f"it holds {found.relative_to(root)}"


def coders_in(model: Any, root: Path, chosen: Sequence[str] | None, options: CoderOptions | None = None) -> Placed:
    """`chosen` are names of directories."""
    listed = [_listed(model, directory) for directory in _directories(root, chosen)]
    return placed_coders(model, listed, "own", chosen, options)


def read(directory: Path) -> SparseCoder:
    """Read one coder. Raises `InputError` for missing files and `WeightsError` for damaged or newer ones."""
    file = required_file(directory / SETTINGS_FILE, "autoencoder")
    content = read_json(file)
    _check_format(content, file)
    weights_file = required_file(directory / WEIGHTS_FILE, "autoencoder")
    tensors = read_safetensors(weights_file)
    if not set(WEIGHT_NAMES) >= tensors.keys():
        raise WeightsError(f"{weights_file}: holds {', '.join(sorted(tensors))}; not the tensors of this format")
    try:
        _check_words(content["settings"], file)
        settings = _settings(content["settings"], directory)
        placement = None if content["placement"] is None else _placement(content["placement"])
        coder = SparseCoder(CoderWeights(**tensors), settings)
    except (KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{file}: is damaged ({error}); save the autoencoder again") from error
    coder.placement = placement
    coder.holds_value_bias = content.get("holds_value_bias") is True  # not in files of before it was written
    return coder


def _listed(model: Any, directory: Path) -> Listed:
    coder = read(directory)

    def own() -> Placement:
        if coder.placement is None:
            return _named_place(model, directory, coder.settings)
        return _in_model(model, coder.placement)

    is_transcoder = coder.placement is not None and coder.placement.target is not None
    return Listed(directory.name, own, lambda: coder, "elsewhere" if is_transcoder else "what it reads")


def _check_format(content: dict[str, Any], file: Path) -> None:
    if content.get("format") != FORMAT:
        raise WeightsError(f"{file}: is no {FORMAT!r} file (format={content.get('format')!r})")
    version = content.get("version")
    if version != FORMAT_VERSION:
        raise WeightsError(f"{file}: is of version {version!r}; this sae-auto-interp reads version {FORMAT_VERSION}")


def _check_words(saved: dict[str, Any], file: Path) -> None:
    """An unknown activation would encode as another."""
    for name, words in (("activation", Activation), ("normalisation", Normalisation), ("side", Side)):
        if name in saved and saved[name] not in get_args(words):
            known = ", ".join(get_args(words))
            raise WeightsError(f"{file}: {name} is {saved[name]!r}, which is unknown; known: {known}")


def _settings(saved: dict[str, Any], directory: Path) -> CoderSettings:
    claims = CoderClaims(**saved.pop("claims"))
    return replace(CoderSettings(**saved), claims=claims, source=str(directory))


def _placement(saved: dict[str, Any]) -> Placement:
    target = saved["target"]
    return Placement(tuple(Site(**site) for site in saved["sites"]), None if target is None else Site(**target))


def _directories(root: Path, chosen: Sequence[str] | None) -> list[Path]:
    if root.is_file():
        return [root.parent]
    if chosen is not None:
        return [root / name for name in chosen]
    return sorted(p.parent for p in root.rglob(WEIGHTS_FILE))


def _in_model(model: Any, placement: Placement) -> Placement:
    """The same place in `model`, whose module paths may be those of a base model or of one around it."""

    def resolved(site: Site) -> Site:
        return replace(site, module_path=resolve_module_path(model, site.module_path))

    target = None if placement.target is None else resolved(placement.target)
    return Placement(tuple(map(resolved, placement.sites)), target)


def _named_place(model: Any, directory: Path, settings: CoderSettings) -> Placement:
    return Placement((Site(resolve_module_path(model, directory.name), settings.side),))
