"""What a plan says about memory: on a GPU, and for merging with several threads."""

import pytest

from sae_auto_interp.config import RunConfig
from sae_auto_interp.pipeline.planning import sizes as planning_sizes
from sae_auto_interp.pipeline.planning.sizes import Sizes, planned_sizes
from sae_auto_interp.pipeline.resolved import resolve_inputs

EMBEDDED = {"model": "embedded:language_model", "autoencoders": ["embedded:sparse_coders/openai"]}
WEIGHTS_MIB = 60
"""More than the embedded weights take."""


def sizes(device: str, batch_size: int | None, n_tokens: int = 10_000) -> Sizes:
    data = {"n_tokens": n_tokens, "ctx_len": 64}
    given = EMBEDDED | {"device": device, "cache": {"batch_size": batch_size}, "data": data}
    config = RunConfig.model_validate(given)
    return planned_sizes(resolve_inputs(config), None, 0, 0.0, 0, measured=None)


def test_without_a_gpu_none_of_its_memory_is_planned() -> None:
    assert sizes("cpu", None).vram == 0


def test_on_a_gpu_memory_is_that_of_the_weights_a_block_and_a_batch() -> None:
    block = 512
    small, large = (sizes("cuda:1", batch_size).vram for batch_size in (1, 2001))
    assert small is not None
    assert large is not None
    assert block < small < block + WEIGHTS_MIB
    hidden, heads = 128, 4
    batch = 2000 * 64 * 4 * (24 * hidden + 2 * heads * 64) / 2**20
    assert large - small == pytest.approx(batch)


def test_merging_with_many_threads_takes_more_than_the_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning_sizes, "N_THREADS", 1)
    few = sizes("cpu", None, n_tokens=10_000_000).ram
    monkeypatch.setattr(planning_sizes, "N_THREADS", 4)
    many, of_little = (sizes("cpu", None, n_tokens=n).ram for n in (10_000_000, 10_000))
    assert few is not None
    assert many is not None
    assert many - few == pytest.approx(4 * 50 - 2 * 64)
    assert of_little == few
