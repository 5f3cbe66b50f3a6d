"""What one model at one endpoint has been seen to do, and the file that remembers it.

Measured by `_probing`, never assumed from a vendor's name: many servers take a field they do not know without a word.
The file belongs to a run directory, so that a run that is continued asks the same way it began.
"""

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import TypeAdapter, ValidationError

from sae_auto_interp.errors import RunDirectoryError

PromptLogprobsBy: TypeAlias = Literal["prompt_logprobs", "echo"]
ChoiceField: TypeAlias = Literal["structured_outputs", "guided_choice"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a probe saw; everything else about the endpoint is unknown."""

    json_schema: bool
    """An answer is held to a JSON schema, also against what the prompt asks for."""
    choice_field: ChoiceField | None
    """The field of the request that holds an answer to one of several texts."""
    top_logprobs: int
    """Alternatives it gives for each generated token, 20 at most; 0: no log-probabilities that can be believed."""
    prompt_logprobs: PromptLogprobsBy | None
    """The field by which it rates the tokens of a given text (in `/completions`)."""
    n: bool
    """Several answers to one request."""
    seed: bool
    """The same seed gives the same text, another seed another."""
    max_tokens: bool
    """An answer ends at the bound given."""
    refused: tuple[str, ...] = ()
    """Parameters that the server said it does not take; they are not sent."""

    def summary(self) -> str:
        """One line: what there is, and what there is not."""
        found = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "refused"}
        there = [name if value is True else f"{name} ({value})" for name, value in found.items() if value]
        absent = [name for name, value in found.items() if not value]
        parts = {"has": there, "absent": absent, "refuses": self.refused}
        return "; ".join(f"{word}: {', '.join(names)}" for word, names in parts.items() if names)

    def with_refused(self, names: Collection[str]) -> "Capabilities":
        return replace(self, refused=tuple(sorted(names)))


@dataclass(frozen=True, slots=True)
class CapabilityFile:
    """Capabilities of one model at one endpoint, kept as JSON in a folder."""

    folder: Path
    base_url: str
    model: str

    @property
    def path(self) -> Path:
        digest = hashlib.sha256(f"{self.base_url}\n{self.model}".encode()).hexdigest()
        return self.folder / f"capabilities-{digest[:16]}.json"

    def load(self) -> Capabilities | None:
        """What is remembered, if anything. Raises RunDirectoryError for a damaged file."""
        if not self.path.is_file():
            return None
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            return TypeAdapter(Capabilities).validate_python(content["capabilities"])
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            raise RunDirectoryError(f"{self.path} is damaged; delete it, and the endpoint is asked again") from error

    def save(self, capabilities: Capabilities) -> None:
        content = {"base_url": self.base_url, "model": self.model, "capabilities": asdict(capabilities)}
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        unfinished.replace(self.path)
