"""What to say of files that are not read: kinds left out on purpose, and files of no known family.

Configurations name a kind under one key or another; of some the tensors give it away.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from sae_auto_interp.autoencoders.families._activation_names import plain
from sae_auto_interp.autoencoders.files import files_below, is_lfs_pointer, read_json, read_yaml, weight_shapes
from sae_auto_interp.errors import WeightsError

LEFT_OUT = {
    "temporal": "its codes depend on the tokens before, so a vector alone has none",
    "matching_pursuit": "its codes are found by a search, one decoder row after the other, not by an encoder",
    "lorsa": "its features are attention heads, whose codes depend on the tokens before",
    "molt": "its features are low-rank maps, which have no direction of their own",
}
"""{kind: why it is not read}"""
_KEYS = ("architecture", "sae_type", "type", "kind", "dict_class", "sae_diff_type", "model_type", "class")
_OF_TEMPORAL = "attn_layers."
"""How tensors begin that only a temporal autoencoder has."""
LARGEST_BYTES = 1 << 20
DEPTH = 4
"""Levels of nested sections in a configuration that are looked at."""


def left_out(root: Path) -> str | None:
    """The kind and the reason, if what lies there is of a kind that is left out on purpose."""
    kinds = {plain(kind): kind for kind in LEFT_OUT}
    for stated in _stated_kinds(root):
        found = next((kind for word, kind in kinds.items() if plain(stated).startswith(word)), None)
        if found is not None:
            return f"{found!r} autoencoders are not read: {LEFT_OUT[found]}"
    for file in files_below(root, "*.safetensors", "*.pt", "*.pth"):
        if any(name.startswith(_OF_TEMPORAL) for name in weight_shapes(file)):
            return f"'temporal' autoencoders are not read: {LEFT_OUT['temporal']}"
    return None


def _stated_kinds(root: Path) -> Iterator[str]:
    folder = root if root.is_dir() else root.parent
    files = files_below(folder, "*.json", "*.yaml", "*.yml") if root.is_dir() else sorted(folder.glob("*.*"))
    for file in files:
        if file.suffix in (".json", ".yaml", ".yml") and file.stat().st_size <= LARGEST_BYTES:
            try:
                config = read_json(file) if file.suffix == ".json" else read_yaml(file)
            except WeightsError:
                continue
            yield from _kinds_in(config, DEPTH)


def _kinds_in(config: Mapping[str, Any], depth: int) -> Iterator[str]:
    for key, value in config.items():
        if isinstance(value, str) and key in _KEYS:
            yield value
        elif isinstance(value, dict) and depth:
            yield from _kinds_in(cast("dict[str, Any]", value), depth - 1)


CONFIG_FIELDS = ("architecture", "d_in", "d_sae", "hook_name", "apply_b_dec_to_input", "normalize_activations")
"""Fields of SAELens' cfg.json that weights alone do not tell; no other form asks for fewer."""


WEIGHTS = ("*.pt", "*.pth", "*.bin", "*.ckpt", "*.safetensors", "*.npz")


SHOWN = 12


def unknown_files(root: Path) -> str:
    """A clause about what lies at `root`; of the first file of weights the tensors, and the way out."""
    files = files_below(root, *WEIGHTS)
    if not files:
        held = sorted(p.name for p in root.iterdir())[:8] if root.is_dir() else ["no known weights"]
        return f"it holds {', '.join(held) or 'nothing'}"
    file = files[0]
    name = file.name if root.is_file() else file.relative_to(root).as_posix()
    if is_lfs_pointer(file):
        return f"it holds {name}, a Git LFS pointer and not the file itself; fetch it with: git lfs pull"
    shapes = weight_shapes(file)
    if not shapes:
        return f"it holds {name}, of which no tensor can be read; is it truncated, or does it hold code?"
    tensors = ", ".join(f"{key} {list(shape)}" for key, shape in list(shapes.items())[:SHOWN])
    more = f" and {len(shapes) - SHOWN} more" if len(shapes) > SHOWN else ""
    return f"it holds {name} with {tensors}{more}, {_missing(file)}"


def _missing(file: Path) -> str:
    if file.name == "ae.pt":
        return (
            "and what is missing is the config.json that dictionary_learning writes beside ae.pt: "
            '{"trainer": {"dict_class": ..., "layer": ..., "submodule_name": ..., "lm_name": ...}, '
            '"buffer": {"io": ...}}'
        )
    return (
        "which do not say how it encodes or where it reads: save them as sae_weights.safetensors (W_enc [d_in, d_sae], "
        f"W_dec [d_sae, d_in], b_enc, b_dec) and beside it a cfg.json with {', '.join(CONFIG_FIELDS)} (of a top k, k "
        "too)"
    )
