"""Prompts are `.md` files beside the component that uses them; their hash is stored with every answer."""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Template


@dataclass(frozen=True, slots=True)
class Prompt:
    """A template with `$name` placeholders, and the id that results are filed under."""

    id: str
    template: str

    def fill(self, **values: str) -> str:
        """The prompt with every placeholder replaced; a missing one is an error."""
        return Template(self.template).substitute(values)


@cache
def load_prompt(folder: str, name: str) -> Prompt:
    """Read `folder/name.md` of this package; its id is the name and the first 8 digits of its SHA-256."""
    text = files(f"sae_auto_interp.{folder}").joinpath(f"{name}.md").read_text(encoding="utf-8").strip()
    return Prompt(f"{folder}/{name}@{hashlib.sha256(text.encode()).hexdigest()[:8]}", text)
