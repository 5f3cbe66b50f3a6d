"""What whoever loads says about a coder: it goes before what the files say, and says what they leave open.

`site`, `target`, `k` and `normalisation` are of every family; which others a family takes, its module says in OPTIONS.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from sae_auto_interp.autoencoders.settings import Normalisation
from sae_auto_interp.errors import InputError

OF_EVERY_FAMILY = ("site", "target", "k", "normalisation")


@dataclass(frozen=True, slots=True)
class Reading:
    """What dictionary_learning leaves to whoever loads."""

    normalise_decoder: bool = True
    """For AutoEncoder: decoder columns are scaled to norm 1, and codes by the norms."""
    scale_by_decoder_norm: bool = False
    """For all classes: codes are multiplied by the norm of their decoder column, as the crosscoder fork does."""
    active_groups: int | None = None
    """For Matryoshka: the number of leading groups of features to use; None uses all."""


@dataclass(frozen=True, slots=True)
class CoderOptions:
    """None leaves it to the files."""

    site: str | tuple[str, ...] | None = None
    """Where it reads; of crosscoders all places, in the order of the forward pass."""
    target: str | None = None
    """What a transcoder reconstructs."""
    k: int | None = None
    """Entries that a top k keeps."""
    normalisation: Normalisation | None = None
    """What is done to a vector before the encoder sees it, and undone after the decoder."""
    processed: bool | None = None
    """For SAELens: whether it was trained on a model that TransformerLens had processed."""
    norm_scaling_factor: float | None = None
    """For SAELens: the factor that activations were multiplied by in training."""
    kind: str | None = None
    """For Gemma Scope: res, mlp, att or transcoders."""
    location: str | None = None
    """For OpenAI: resid_post_mlp, resid_delta_mlp, ..."""
    reading: Reading | None = None
    """For dictionary_learning: how its weights are read."""
    where: str = "options"
    """What messages call these options: `autoencoders[0]` of a run file."""

    @property
    def given(self) -> list[str]:
        """Names of the options that were given."""
        return [f.name for f in fields(self) if f.name != "where" and getattr(self, f.name) is not None]

    @property
    def sites(self) -> tuple[str, ...] | None:
        """All places that `site` names."""
        return (self.site,) if isinstance(self.site, str) else self.site


def options_of(given: Mapping[str, Any], where: str) -> CoderOptions:
    """The options of an entry of the run file, which messages call `where`."""
    reading = given.get("reading")
    options: dict[str, Any] = dict(given)
    if reading is not None:
        options["reading"] = Reading(**reading.model_dump())
    return CoderOptions(**options, where=where)


def check_options(options: CoderOptions, family: str, own: Collection[str]) -> None:
    """Raise `InputError` for an option that a family does not have."""
    for name in options.given:
        if name not in own and name not in OF_EVERY_FAMILY:
            known = ", ".join((*OF_EVERY_FAMILY, *own))
            raise InputError(
                f"{options.where}.{name}: files of the family {family} have no such option; they have {known}"
            )
