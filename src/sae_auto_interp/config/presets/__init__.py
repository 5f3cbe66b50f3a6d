"""Presets: run files without a model, which another run file begins from with `preset: NAME`. One YAML file each."""

from pathlib import Path
from typing import Any, cast

import yaml

from sae_auto_interp.errors import UnknownNameError

FOLDER = Path(__file__).parent


def preset_names() -> list[str]:
    """What `preset:` may name."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_preset(name: str) -> dict[str, Any]:
    """The content of a preset; raises `UnknownNameError`."""
    if name not in preset_names():
        raise UnknownNameError("preset", name, preset_names())
    return cast("dict[str, Any]", yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")))


def with_preset(content: dict[str, Any]) -> dict[str, Any]:
    """The settings with those of their preset where they say nothing: key by key within a section, lists as a whole."""
    if "preset" not in content:
        return content
    merged = load_preset(str(content["preset"]))
    for key, value in content.items():
        base = merged.get(key)
        merged[key] = base | value if isinstance(base, dict) and isinstance(value, dict) else value
    del merged["preset"]
    return merged
