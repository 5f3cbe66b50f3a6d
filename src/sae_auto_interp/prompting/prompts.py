"""Prompts are `.md` files beside the component that uses them; their hash is stored with every answer."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from string import Template

from sae_auto_interp.errors import UnknownNameError


@dataclass(frozen=True, slots=True)
class Prompt:
    """A template with `$name` placeholders, and the id that results are filed under."""

    id: str
    template: str

    def fill(self, **values: str) -> str:
        """The prompt with every placeholder replaced; a missing one is an error."""
        return _filled(self.template, tuple(values.items()))


@lru_cache(maxsize=64)
def _filled(template: str, values: tuple[tuple[str, str], ...]) -> str:
    """Remembered: most prompts of a run are filled with the same few words."""
    return Template(template).substitute(dict(values))


@cache
def load_prompt(folder: str, name: str) -> Prompt:
    """Read `folder/name.md` of this package; its id is the name and the first 8 digits of its SHA-256."""
    beside = {file.name.removesuffix(".md"): file for file in files(f"sae_auto_interp.{folder}").iterdir()}
    known = sorted(stem for stem, file in beside.items() if file.name.endswith(".md"))
    if name not in known:
        raise UnknownNameError(f"prompt of {folder}", name, known)
    text = beside[name].read_text(encoding="utf-8").strip()
    return Prompt(f"{folder}/{name}@{_digest([text])}", text)


def conversation_id(parts: Sequence[Prompt]) -> str:
    """One id for a prompt made of several: that of the first, with a hash over all."""
    return f"{parts[0].id.partition('@')[0]}@{_digest([part.template for part in parts])}"


def prompts_digest(folder: str, name: str) -> str | None:
    """Hash over all prompts of the component `name` of a folder (`name.md`, and its worked example in
    `name_example_*.md`); None when it has none."""
    beside = sorted(files(f"sae_auto_interp.{folder}").iterdir(), key=lambda file: file.name)
    own = [
        file
        for file in beside
        if file.name == f"{name}.md" or (file.name.startswith(f"{name}_example_") and file.name.endswith(".md"))
    ]
    return _digest([file.read_text(encoding="utf-8") for file in own]) if own else None


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:8]
