"""The run file's section about autoencoders: those that have files, and those that are made.

autoencoders: [directory or hf:owner/repo/path@revision, ..., {kind: neurons, module_paths: [h.0.mlp.c_proj:in], k: 32}]
"""

from typing import Annotated, Any, Literal, cast

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from sae_auto_interp.config.clients import Section


class ReadingConfig(Section):
    """How dictionary_learning's weights are read, where its own code leaves that to the caller."""

    normalise_decoder: bool = True
    """For AutoEncoder: decoder columns are scaled to norm 1, and codes by the norms."""
    scale_by_decoder_norm: bool = False
    """Codes times the norm of their decoder column."""
    active_groups: int | None = Field(default=None, ge=1)
    """For Matryoshka: the number of leading groups of features to use; None uses all."""


class AutoencoderConfig(Section):
    """Weights; `module_paths` chooses among them in the family's own words, None takes all.

    What else is said here goes before what the files say; None leaves it to them: docs/autoencoders.md.
    """

    path: str
    """A directory, a file, or `hf:owner/repo[/path][@revision]` on the hub."""
    module_paths: tuple[str, ...] | None = None
    site: str | tuple[str, ...] | None = None
    """Where its one autoencoder reads, if not where its files say: `transformer.h.1:out`; a crosscoder's places."""
    target: str | None = None
    """What a transcoder reconstructs: `transformer.h.1.mlp:out`."""
    k: int | None = Field(default=None, ge=1)
    """Entries that a top k keeps."""
    normalisation: Literal["none", "layer_norm", "constant_norm"] | None = None
    """What is done to each vector before it is encoded, and undone after decoding."""
    processed: bool | None = None
    """For SAELens: whether it was trained on a model that TransformerLens had processed, on centred activations."""
    norm_scaling_factor: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """For SAELens: the factor that activations were multiplied by in training."""
    kind: Literal["res", "mlp", "att", "transcoders"] | None = None
    """For Gemma Scope: which of its kinds."""
    location: (
        Literal["mlp_post_act", "resid_delta_attn", "resid_delta_mlp", "resid_post_attn", "resid_post_mlp"] | None
    ) = None
    """For OpenAI: where the autoencoder reads."""
    reading: ReadingConfig | None = None
    """For dictionary_learning: how its weights are read."""

    @model_validator(mode="before")
    @classmethod
    def _bare_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @field_validator("site", mode="before")
    @classmethod
    def _place_or_places(cls, value: Any) -> Any:
        places: list[Any] = cast("list[Any]", value) if isinstance(value, list | tuple) else [value]
        if value is None or (places and all(isinstance(each, str) for each in places)):
            return cast("Any", value)
        raise ValueError("give the name of a place, such as transformer.h.1:out, or of a crosscoder a list of them")

    @property
    def label(self) -> str:
        return self.path

    @property
    def options(self) -> dict[str, Any]:
        """What is said of the autoencoder beside its files, by name."""
        return {
            name: value
            for name in type(self).model_fields
            if name not in ("path", "module_paths") and (value := getattr(self, name)) is not None
        }


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
    """For neurons, instead of `k`: neurons above this value fire."""
    rotated: bool = False
    """For neurons: use a random orthogonal basis, drawn from the run's seed."""
    width: int | None = Field(default=None, ge=1)
    """For `random`: the number of features."""

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
    if isinstance(value, dict):
        return "made" if "kind" in value and "path" not in value else "files"
    is_made = isinstance(value, MadeCoderConfig)
    return "made" if is_made else "files"


CoderConfig = Annotated[
    Annotated[AutoencoderConfig, Tag("files")] | Annotated[MadeCoderConfig, Tag("made")], Discriminator(_has_files)
]
