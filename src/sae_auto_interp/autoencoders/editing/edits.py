"""What is changed in a model's activations through its autoencoders: frozen values, and no torch.

    v' = v + value | value | value · v | 0        a `FeatureEdit` of a feature's activation v: add, clamp, scale, ablate
    new = x + (decode(v') - decode(v))            the error term x - decode(v) stays as it is
    new = decode(v')                              with a `Replacement` at the same place, the error term goes

Edits of one feature are done one after the other. All that is not edited is left alone, bit for bit. How a steering
score applies them (added to the code, with the error term, from the last token of the prompt on): Paulo et al. 2024,
arXiv 2410.13928, appendix G.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float32

from sae_auto_interp.errors import InputError
from sae_auto_interp.types import Array, FeatureId

EditKind: TypeAlias = Literal["add", "clamp", "scale", "ablate"]


@dataclass(frozen=True, slots=True)
class Positions:
    """Where a sequence is edited: columns `start` up to `stop` of the token ids, or those that `mask` marks.

    A negative `start` or `stop` counts back from the end of each row's prompt (padding left out): `Positions(-1)` is
    the last token of the prompt and all that is generated after it. Raises `InputError` for what marks nothing.
    """

    start: int = 0
    stop: int | None = None
    """Exclusive; None goes on to the end, generated tokens included."""
    mask: Bool[Array, "batch seq"] | None = None
    """Over the prompt, instead of `start` and `stop`; what is generated is not edited then."""

    def __post_init__(self) -> None:
        if self.mask is not None and (self.start, self.stop) != (0, None):
            raise InputError(f"positions: give a mask, or {self.start} to {self.stop}, not both")
        if self.stop is not None and (self.start < 0) == (self.stop < 0) and self.start >= self.stop:
            raise InputError(f"positions: there is nothing from {self.start} up to {self.stop} (exclusive)")
        if self.stop == 0:
            raise InputError("positions: there is nothing before position 0; leave stop out to go on to the end")

    def check(self, n_rows: int, n_prompt: int, shortest: int, n_all: int) -> None:
        """Raise `InputError` unless they lie in `n_rows` prompts of `n_prompt` tokens, `n_all` with what is generated.

        `shortest` is the length of the shortest prompt, padding left out.
        """
        if self.mask is not None:
            if self.mask.shape != (n_rows, n_prompt):
                shape = list(self.mask.shape)
                raise InputError(f"positions: the mask has shape {shape}, the tokens [{n_rows}, {n_prompt}]")
            return
        if self.start >= n_all or (self.stop or 0) > n_all:
            raise InputError(f"positions: {self.start} to {self.stop} are beyond a sequence of {n_all} tokens")
        furthest = min(self.start, self.stop or 0)
        if -furthest > shortest:
            raise InputError(f"positions: {furthest} is before the start of a prompt of {shortest} tokens")


EVERYWHERE = Positions()
FROM_LAST_PROMPT_TOKEN = Positions(-1)


@dataclass(frozen=True, slots=True)
class FeatureEdit:
    """One feature's activation changed; `value` is what is added, set, or multiplied with."""

    feature: FeatureId
    """The module path is resolved as everywhere: in full, below the base model, or a unique ending."""
    kind: EditKind
    value: float | None = None
    positions: Positions = EVERYWHERE

    def __post_init__(self) -> None:
        if self.kind not in ("add", "clamp", "scale", "ablate"):
            raise InputError(f"{self.feature}: there is no edit {self.kind!r}; give add, clamp, scale or ablate")
        if (self.kind == "ablate") != (self.value is None):
            needs = "takes no value: it sets 0" if self.kind == "ablate" else "needs a value"
            raise InputError(f"{self.feature}: {self.kind} {needs}")
        if self.value is not None and not np.isfinite(self.value):
            raise InputError(f"{self.feature}: {self.kind} by {self.value}; give a finite number")

    @property
    def module_path(self) -> str:
        return self.feature.module_path


@dataclass(frozen=True, slots=True)
class Replacement:
    """What an autoencoder reconstructs, replaced by the reconstruction: the error term is left out.

    With `vector` (such as the mean, or zeros) that is put there instead, of the place as the autoencoder sees it.
    """

    module_path: str
    vector: Float32[Array, " d"] | None = None
    positions: Positions = EVERYWHERE


Edit: TypeAlias = FeatureEdit | Replacement
