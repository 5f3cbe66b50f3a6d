"""The product of activations with an encoder's rows, in whichever way is the fastest here.

The limit must be an honest one: one product per batch, or blocks of rows, of columns or of the transposed product into
a reused buffer. What the machine's caches like best is found out by timing each on a part of a batch.
"""

import time
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

Product = Callable[[Float[Tensor, "n d"], Float[Tensor, "width d"]], None]

BLOCK_ENTRIES = (1 << 20, 1 << 22, 1 << 24, 1 << 26)
"""Numbers in a block of the result, 4 bytes each."""
UNEVEN = 32
"""Numbers behind each row of the result that keep its length from being a power of two."""
TRIED_TOKENS = 1024
N_TRIALS = 3


def fastest(x: Float[Tensor, "n d"], w: Float[Tensor, "width d"]) -> tuple[str, Product]:
    """Name and function of the way that took the least time on the first tokens of `x`."""
    x = x[:TRIED_TOKENS]
    seconds = {name: min(_seconds(product, x, w) for _ in range(N_TRIALS)) for name, product in ways().items()}
    name = min(seconds, key=lambda way: seconds[way])
    return name, ways()[name]


def ways() -> dict[str, Product]:
    found: dict[str, Product] = {"whole": _whole}
    for entries in BLOCK_ENTRIES:
        size = f"{entries * 4 >> 20} MiB"
        found[f"rows, {size}"] = partial(_row_blocks, entries=entries)
        found[f"rows of uneven length, {size}"] = partial(_row_blocks, entries=entries, padding=UNEVEN)
        found[f"columns, {size}"] = partial(_column_blocks, entries=entries)
        found[f"transposed, {size}"] = partial(_transposed_blocks, entries=entries)
    return found


def synchronise(tensor: Tensor) -> None:
    """Wait for a GPU to have done what it was given."""
    if tensor.is_cuda:
        torch.cuda.synchronize()


def _seconds(product: Product, x: Tensor, w: Tensor) -> float:
    synchronise(x)
    started = time.perf_counter()
    product(x, w)
    synchronise(x)
    return time.perf_counter() - started


def _whole(x: Tensor, w: Tensor) -> None:
    torch.mm(x, w.T)


def _row_blocks(x: Tensor, w: Tensor, *, entries: int, padding: int = 0) -> None:
    size = min(max(1, entries // w.shape[0]), x.shape[0])
    out = x.new_empty(size, w.shape[0] + padding)[:, : w.shape[0]]
    for first in range(0, x.shape[0], size):
        part = x[first : first + size]
        torch.mm(part, w.T, out=out[: part.shape[0]])


def _column_blocks(x: Tensor, w: Tensor, *, entries: int) -> None:
    size = min(max(1, entries // x.shape[0]), w.shape[0])
    out = x.new_empty(x.shape[0] * size)
    for first in range(0, w.shape[0], size):
        part = w[first : first + size]
        n = part.shape[0]
        torch.mm(x, part.T, out=out[: x.shape[0] * n].view(x.shape[0], n))


def _transposed_blocks(x: Tensor, w: Tensor, *, entries: int) -> None:
    size = min(max(1, entries // x.shape[0]), w.shape[0])
    out = x.new_empty(size, x.shape[0])
    for first in range(0, w.shape[0], size):
        part = w[first : first + size]
        torch.mm(part, x.T, out=out[: part.shape[0]])
