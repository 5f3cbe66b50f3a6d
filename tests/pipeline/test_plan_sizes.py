"""What a plan says about memory on a GPU: the weights, and what caching holds beside them."""

import pytest

from sae_auto_interp.autoencoders.encoder import BLOCK_ENTRIES_ON_DEVICE
from sae_auto_interp.config import RunConfig
from sae_auto_interp.features.batch_size import BUDGET_BYTES_ON_DEVICE
from sae_auto_interp.pipeline.plan_measured import MIB
from sae_auto_interp.pipeline.plan_sizes import planned_sizes

EMBEDDED = {"model": "embedded:language_model", "autoencoders": ["embedded:sparse_coders/openai"]}


@pytest.mark.parametrize("device", ["cuda:1", "cpu"])
def test_memory_on_a_gpu_is_that_of_the_weights_a_batch_and_a_block(device: str) -> None:
    config = RunConfig.model_validate(EMBEDDED | {"device": device})
    sizes = planned_sizes(config, None, n_scores=0, stored_bytes=0.0, n_requests=0, measured=None)
    beside = (BUDGET_BYTES_ON_DEVICE + 4 * BLOCK_ENTRIES_ON_DEVICE) / MIB
    assert sizes.vram is not None
    if device == "cpu":
        assert sizes.vram == 0
    else:
        assert beside < sizes.vram < beside + 100, "the embedded weights are some ten MiB"
