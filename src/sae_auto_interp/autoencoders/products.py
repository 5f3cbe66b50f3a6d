"""Matrix products on a CPU in which no row's bits depend on how many rows there are.

A product of many rows is divided among threads, and each thread's part is computed by kernels that add up every row in
the same order; only parts of few rows (below four in MKL 2024) are computed by others, which add up in another order.
The last bit of a number then differs, and about one in 300 of the float16 values that are stored. So few rows are made
more, by rows of zeros: what is cached does not depend on the batch size, or on which rows share a batch.

On a GPU the kernel is chosen by the shape, and nothing is promised.
"""

import torch
from jaxtyping import Float32
from torch import Tensor

ROWS_PER_THREAD = 8
"""As many are divided evenly enough that no thread has few."""


def product(
    x: Float32[Tensor, "n d_in"],
    weights: Float32[Tensor, "columns d_in"],
    out: Float32[Tensor, "n columns"] | None = None,
    bias: Float32[Tensor, " columns"] | None = None,
) -> Float32[Tensor, "n columns"]:
    """`x` times `weights` transposed, plus `bias`, into `out` where there is one."""
    n, least = len(x), ROWS_PER_THREAD * torch.get_num_threads()
    if n >= least or x.device.type != "cpu":
        return _product(x, weights, out, bias)
    padded = x.new_zeros(least, x.shape[1])
    padded[:n] = x
    found = _product(padded, weights, None, bias)[:n]
    return found if out is None else out.copy_(found)


def _product(x: Tensor, weights: Tensor, out: Tensor | None, bias: Tensor | None) -> Tensor:
    if bias is None:
        return torch.mm(x, weights.t(), out=out)
    return torch.addmm(bias, x, weights.t(), out=out)
