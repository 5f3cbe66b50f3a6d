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

from sae_auto_interp.clients.http.refused_parameters import shown_name
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
    context_tokens: int | None = None
    """Tokens of prompt and answer together, as the server says; None: it says nothing."""
    refused: tuple[str, ...] = ()
    """Parameters, and what else of a request (`_parameters`), that the server does not take; they are not sent."""
    list_schema: bool | None = None
    """An answer is held to a schema with a list of fixed length; None: not asked, as in files of earlier versions."""
    system_role: bool | None = None
    """Messages of the role system are taken; None: not asked yet."""

    def summary(self) -> str:
        """One line: what there is, and what there is not."""
        found = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "refused"}
        there = [name if value is True else f"{name} ({value})" for name, value in found.items() if value]
        absent = [name for name, value in found.items() if not value and name != "context_tokens"]
        parts = {"has": there, "absent": absent, "refuses": [*map(shown_name, self.refused)]}
        return "; ".join(f"{word}: {', '.join(names)}" for word, names in parts.items() if names)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to ask."""
        return self.list_schema is not None and self.system_role is not None

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
            if content.pop("sha256", None) not in (None, _digest(content)):  # older files have none
                raise ValueError("its checksum is not that of its content")
            return TypeAdapter(Capabilities).validate_python(content["capabilities"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, ValidationError) as error:
            raise RunDirectoryError(f"{self.path} is damaged; delete it, and the endpoint is asked again") from error

    def save(self, capabilities: Capabilities) -> None:
        content = {"base_url": self.base_url, "model": self.model, "capabilities": asdict(capabilities)}
        content["sha256"] = _digest(content)
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        unfinished.replace(self.path)


def _digest(content: object) -> str:
    """What is asked, and how, goes by this file: a flipped bit would change the answers."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
