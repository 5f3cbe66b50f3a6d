"""The bare limit is honest: all of the product, and the very activations that a whole forward pass gives."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bare.forward import output_at
from benchmarks.bare.product import fastest, ways
from benchmarks.build_workload import random_gpt2
from benchmarks.workload import Workload


@pytest.mark.parametrize("way", ways())
@pytest.mark.parametrize("shape", [(5, 3, 7), (700, 16, 3000), (1, 2, 1)])
def test_every_way_multiplies_everything(way: str, shape: tuple[int, int, int]) -> None:
    n, d, width = shape
    with FlopCounterMode(display=False) as counter:
        ways()[way](torch.zeros(n, d), torch.zeros(width, d))
    assert counter.get_total_flops() == 2 * n * d * width


def test_the_fastest_way_is_one_of_them() -> None:
    name, product = fastest(torch.zeros(10, 4), torch.zeros(30, 4))
    assert name in ways()
    product(torch.zeros(10, 4), torch.zeros(30, 4))


def test_the_stopped_forward_pass_gives_the_layers_output() -> None:
    model = random_gpt2(Workload(width=8, n_tokens=32, d_model=16, n_layers=3, vocab=20, ctx_len=8))
    tokens = torch.arange(16).reshape(2, 8)
    with torch.inference_mode():
        hidden = model(tokens, output_hidden_states=True).hidden_states
    torch.testing.assert_close(output_at(model, model.transformer.h[1], tokens), hidden[2])
