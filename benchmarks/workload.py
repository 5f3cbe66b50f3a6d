"""What is cached in the benchmarks: a random GPT-2, an autoencoder of random directions, and Zipfian tokens.

The same files serve ours, the bare limit and the peer. Here are only names and numbers; `build_workload` makes the
files.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

MODEL = "model"
CODERS = "coders"
TOKENS = "tokens.npy"
NATIVE_STORE = "native"
PEER_STORE = "peer"
STORE_MODULE = "h.1"
"""The one module of a store without a model."""

Activation = Literal["topk", "relu", "jumprelu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Everything that decides the files."""

    width: int
    n_tokens: int
    heavy: bool = False
    """A bias makes a few features fire on a tenth of the tokens and more, as in trained autoencoders."""
    activation: Activation = "topk"
    k: int = 32
    """Of top-k; the others are given thresholds at which about as many features fire per token."""
    d_model: int = 128
    n_layers: int = 2
    layer: int = 1
    """The autoencoder reads the output of this block, counted from 0."""
    n_heads: int = 4
    vocab: int = 5000
    ctx_len: int = 256
    seed: int = 0

    @property
    def n_rows(self) -> int:
        return self.n_tokens // self.ctx_len

    @property
    def name(self) -> str:
        """Of its folder: every value, so that no two workloads share one."""
        return "-".join(f"{value}" for value in asdict(self).values())

    def as_settings(self, **others: Any) -> dict[str, Any]:
        """What a JSON line says about it."""
        return asdict(self) | others


def block_path(settings: dict[str, Any]) -> str:
    """The module, below the base model, whose output the autoencoder reads."""
    return f"h.{settings['layer']}"


def scratch_folder(folder: Path, who: str) -> Path:
    """Where a measured program writes; its parent holds the workload's files."""
    return folder / f"written-by-{who}"
