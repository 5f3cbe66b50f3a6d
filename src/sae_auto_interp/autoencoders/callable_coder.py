"""Any Python function as an autoencoder: what it gives for each position is cached, explained and scored like a code.

    coder = CallableCoder(probe, d_in=768, width=3)      # probe: [n, 768] float32 -> [n, 3], zero where nothing fires
    submodules = attach(model, {"h.5": coder})

    lengths = CallableCoder(f, d_in=1, width=8)          # f: [n] token ids -> [n, 8]
    submodules = attach(model, {token_site(model): lengths})

The function sees positions without their order, so it is right for probes, other libraries' autoencoders and
properties of single tokens, and not for what depends on the tokens before. What decides its result cannot be read from
weights: the caches of two functions are told apart by their names, source and what they refer to (`callable_facts`), or
by `version`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sae_auto_interp.autoencoders.callable_facts import held_facts, name_of, source_digest
from sae_auto_interp.autoencoders.coder import Coder
from sae_auto_interp.autoencoders.encoding.encoder import Scratch, SparseCode
from sae_auto_interp.autoencoders.encoding.other_encoders import CodeEncoder
from sae_auto_interp.autoencoders.settings import CoderSettings
from sae_auto_interp.errors import InputError
from sae_auto_interp.models.placement import embedding_path, torch_model
from sae_auto_interp.models.sites.site import Site

Encode = Callable[[Tensor], Tensor | SparseCode]
"""[n, d_in] float32, or [n] token ids -> [n, width], dense, or the entries above zero."""
Decode = Callable[[SparseCode, Tensor], Tensor]
"""(code, [n, d_in]) -> [n, d_out]"""


class CallableCoder(Coder):
    """`function` as a coder. Attached at `token_site(model)` it is given token ids, elsewhere float32 activations.

    `decode`, if there is one, makes it reconstruct. `version` names what the function computes, in place of all that it
    refers to: without it, caching a function that refers to what cannot be told apart raises `InputError`.
    `prepend_bos` is whether its rows begin with the BOS token, None either way.
    """

    here: Tensor
    """Without entries; moves to where the coder is put."""

    def __init__(
        self,
        function: Encode,
        *,
        d_in: int,
        width: int,
        decode: Decode | None = None,
        version: str = "",
        prepend_bos: bool | None = None,
    ) -> None:
        super().__init__()
        self.settings = CoderSettings(
            activation="relu", subtract_b_dec=False, prepend_bos=prepend_bos, bos_is_recorded=True,
            family="callable", source=name_of(function), reconstructs=decode is not None,
        )  # fmt: skip
        self._function, self._decode, self._told_apart_by = function, decode, version
        self._d_in, self._width = d_in, width
        self.register_buffer("here", torch.empty(0))

    @property
    def width(self) -> int:
        return self._width

    @property
    def d_in(self) -> int:
        return self._d_in

    def encoder(self, features: Int64[Tensor, " kept"] | None = None, scratch: Scratch | None = None) -> CodeEncoder:
        return _CallingEncoder(self._function, self._width, self.settings.source, self.reads_token_ids)

    def decode_sparse(self, code: SparseCode, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
        if self._decode is None:
            raise InputError(f"{self.settings.source} cannot reconstruct; give CallableCoder a decode= function")
        return self._decode(code, x)

    def encoding_facts(self) -> dict[str, Any]:
        return super().encoding_facts() | {"function": self._function_facts}

    @cached_property
    def _function_facts(self) -> dict[str, Any]:
        """As they are when first asked for: what a function counts while it is called tells it from no other."""
        facts = {"name": self.settings.source, "source": source_digest(self._function), "version": self._told_apart_by}
        return facts if self._told_apart_by else facts | {"refers_to": held_facts(self._function)}


def token_site(model: Any) -> Site:
    """The token ids, as what the model's embedding reads."""
    return Site(embedding_path(torch_model(model)), "input", transform="token_ids")


@dataclass(frozen=True, slots=True)
class _CallingEncoder:
    function: Encode
    width: int
    name: str
    reads_tokens: bool

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "n d_in"]) -> SparseCode:
        given = x[:, 0].long() if self.reads_tokens else x.float()
        found = self.function(given)
        return self._checked(found if isinstance(found, SparseCode) else self._entries(found, len(x)), len(x))

    def _entries(self, dense: Any, n: int) -> SparseCode:
        if not isinstance(dense, Tensor) or tuple(dense.shape) != (n, self.width):
            given = tuple(dense.shape) if isinstance(dense, Tensor) else type(dense).__name__
            raise InputError(
                f"{self.name} gave {given} for {n} positions; expected a tensor of shape {(n, self.width)}"
            )
        if bool(dense.isnan().any()):
            raise InputError(f"{self.name} gave NaN")
        positions, features = (dense > 0).nonzero(as_tuple=True)
        return SparseCode(positions, features, dense[positions, features].float())

    def _checked(self, code: SparseCode, n: int) -> SparseCode:
        for name, found, end in (("position", code.positions, n), ("feature", code.features, self.width)):
            if len(found) and not 0 <= int(found.min()) <= int(found.max()) < end:
                raise InputError(f"{self.name} gave {name}s from {int(found.min())} to {int(found.max())} of {end}")
        if not bool(code.values.isfinite().all()):
            raise InputError(f"{self.name} gave values that are no finite numbers")
        if len((code.positions * self.width + code.features).unique()) < len(code.values):
            raise InputError(f"{self.name} gave several values of one feature at one position")
        order = code.positions.argsort(stable=True)
        return SparseCode(code.positions[order], code.features[order], code.values[order].float())
