"""Everything about an autoencoder that is not a weight: how it encodes, and what it says of itself."""

from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from sae_auto_interp.autoencoders.normalisation import Normalisation
from sae_auto_interp.models.hub import PREFIX as HUB_PREFIX
from sae_auto_interp.models.sites.site import Side

Activation = Literal["topk", "relu", "jumprelu", "gated", "groupmax", "abstopk"]
HAS_K: tuple[Activation, ...] = ("topk", "groupmax", "abstopk")


@dataclass(frozen=True, slots=True)
class CoderClaims:
    """What the files say about the autoencoder, for checking it against the model; None where they say nothing."""

    model: str | None = None
    """Hub id or name of the subject model that it was trained on."""
    l0: float | None = None
    """Features that fire per token, on average."""
    hook: str | None = None
    """Where it reads, in the words of its files."""
    ctx_len: int | None = None
    dataset: str | None = None


@dataclass(frozen=True, slots=True)
class CoderSettings:
    """How an autoencoder encodes. What it is called and claims changes no code; everything else may."""

    activation: Activation
    k: int | None = None
    """Entries kept by `topk` and `abstopk`; groups of `groupmax`, of which each keeps one."""
    relu_before_topk: bool = False
    """Whether a ReLU comes before `topk`: it decides nothing but which of equal pre-activations are kept."""
    subtract_b_dec: bool = True
    normalisation: Normalisation = "none"
    side: Side = "output"
    """Where it reads when it is attached to a bare module path."""
    prepend_bos: bool | None = False
    """Whether rows began with the BOS token in training; None: either will do."""
    family: str = "unknown"
    source: str = ""
    """File, directory or hub address (`hf:owner/repo/path@commit`) that the weights were read from, for messages and
    manifests."""
    claims: CoderClaims = CoderClaims()
    reconstructs: bool = True
    """False where nothing was trained to reconstruct (neurons, random weights), and of one layer of a cross-layer
    transcoder, whose decoder rows are only to be looked at."""

    @property
    def hub_source(self) -> str:
        """`source`, if it is an address on the hub, commit included; else empty."""
        return self.source if self.source.startswith(HUB_PREFIX) else ""

    @property
    def source_name(self) -> str:
        """The last part of `source`, without a commit."""
        path = self.hub_source.rpartition("@")[0] or self.source
        return PurePath(path).name

    @property
    def is_signed(self) -> bool:
        """Whether codes may be negative. The cache keeps what is above zero."""
        return self.activation == "abstopk"
