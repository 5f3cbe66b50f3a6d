"""The run file's section about autoencoders: those that have files, and those that are made.

autoencoders: [directory or hf:owner/repo/path@revision, ..., {kind: neurons, module_paths: [h.0.mlp.c_proj:in], k: 32}]
"""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from sae_auto_interp.config.clients import Section


class AutoencoderConfig(Section):
    """Weights; `module_paths` chooses among them in the family's own words, None takes all."""

    path: str
    """A directory, a file, or `hf:owner/repo[/path][@revision]` on the hub."""
    module_paths: tuple[str, ...] | None = None
    site: str | None = None
    """Where its one autoencoder reads, if not where its files say: `transformer.h.1:out`."""

    @model_validator(mode="before")
    @classmethod
    def _bare_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @property
    def label(self) -> str:
        return self.path


class MadeCoderConfig(Section):
    """Coders that have no files: a model's own neurons, or an autoencoder that was never trained.

    - {kind: neurons, module_paths: [blocks.0.mlp.hook_post], k: 32}
    - {kind: random, module_paths: [h.1], width: 4096, k: 32}
    """

    kind: Literal["neurons", "random"]
    module_paths: tuple[str, ...] = Field(min_length=1)
    """Where; also hook names and addresses (`h.0.mlp.c_proj:in`)."""
    k: int | None = Field(default=None, ge=1)
    """Entries kept of each position. Of `random` without it: ReLU."""
    threshold: float | None = Field(default=None, ge=0)
    """Of neurons, instead of `k`: those above it fire."""
    rotated: bool = False
    """Of neurons: in a random orthogonal basis, drawn from the run's seed."""
    width: int | None = Field(default=None, ge=1)
    """Of `random`: its number of features."""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "MadeCoderConfig":
        if self.kind == "neurons" and ((self.k is None) == (self.threshold is None) or self.width is not None):
            raise ValueError("neurons need either k or threshold, and have no width of their own")
        if self.kind == "random" and (self.width is None or self.threshold is not None or self.rotated):
            raise ValueError("random coders need a width, and have neither threshold nor rotation")
        return self

    @property
    def label(self) -> str:
        return f"{self.kind} at {', '.join(self.module_paths)}"


def _has_files(value: Any) -> str:
    is_made = "kind" in value if isinstance(value, dict) else isinstance(value, MadeCoderConfig)
    return "made" if is_made else "files"


CoderConfig = Annotated[
    Annotated[AutoencoderConfig, Tag("files")] | Annotated[MadeCoderConfig, Tag("made")], Discriminator(_has_files)
]
