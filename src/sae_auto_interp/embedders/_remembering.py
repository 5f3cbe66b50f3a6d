"""Remembers what was embedded: a feature's windows are the same for every explanation of it.

Kept by call, not by text: a text embedded in another batch may differ in its last bits, and no result may depend on
what was asked before.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field

from jaxtyping import Float32

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.protocols import Embedder
from sae_auto_interp.types import Array


@dataclass(frozen=True, eq=False)
class RememberingEmbedder:
    """Keeps the vectors of the last `n_texts` texts. Raises `ConfigError` when that is below 1."""

    embedder: Embedder
    _: KW_ONLY
    n_texts: int = 20_000
    """About 30 MB at 384 dimensions."""
    _calls: OrderedDict[tuple[str, ...], Float32[Array, "n d"]] = field(
        default_factory=lambda: OrderedDict(), init=False, repr=False
    )

    def __post_init__(self) -> None:
        if self.n_texts < 1:
            raise ConfigError(f"embedders.remembering.n_texts={self.n_texts}; give at least 1")

    @property
    def name(self) -> str:
        return self.embedder.name

    async def embed(self, texts: Sequence[str]) -> Float32[Array, "n d"]:
        """What the wrapped embedder says, or said; an error is not remembered."""
        call = tuple(texts)
        if call not in self._calls:
            self._calls[call] = await self.embedder.embed(texts)
        self._calls.move_to_end(call)
        vectors = self._calls[call]
        self._forget()
        return vectors

    async def close(self) -> None:
        await self.embedder.close()

    def _forget(self) -> None:
        """The calls that were not made for longest, but for the last one."""
        n_texts = sum(map(len, self._calls))
        while n_texts > self.n_texts and len(self._calls) > 1:
            oldest, _ = self._calls.popitem(last=False)
            n_texts -= len(oldest)
