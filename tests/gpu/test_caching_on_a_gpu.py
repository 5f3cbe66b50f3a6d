"""Caching on a CUDA GPU: the codes of a CPU, and a host that waits for nothing. Skipped where there is no such GPU.

Weights and activations are small whole numbers, whose products are exact in whatever order they are added up.
"""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sae_auto_interp.autoencoders.encoding.host_copy import HostCopy, to_device
from sae_auto_interp.autoencoders.settings import CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights, SparseCoder
from sae_auto_interp.errors import InputError
from sae_auto_interp.features import CacheOptions, FeatureCache
from sae_auto_interp.features.caching.code_stream import CodeStream
from sae_auto_interp.types import TokenRows
from tests.support.records import directory_bytes, lookup_world, make_rows, tiny_world

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

GPU = torch.device("cuda:0")
D, N = 48, 300
SETTINGS: dict[str, dict[str, Any]] = {
    "topk": {"activation": "topk", "k": 32},
    "topk after a ReLU": {"activation": "topk", "k": 5, "relu_before_topk": True},
    "relu": {"activation": "relu"},
    "threshold": {"activation": "jumprelu"},
    "groupmax": {"activation": "groupmax", "k": 8},
    "abstopk": {"activation": "abstopk", "k": 16},
}


def whole_numbers(*shape: int, largest: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-largest, largest + 1, shape, generator=generator).float()


def coder(width: int, **settings: Any) -> SparseCoder:
    threshold = torch.full((width,), 40.0) if settings["activation"] == "jumprelu" else None
    weights = CoderWeights(
        w_enc=whole_numbers(width, D, largest=4, seed=1),
        b_enc=whole_numbers(width, largest=9, seed=2),
        w_dec=whole_numbers(width, D, largest=4, seed=3),
        b_dec=torch.zeros(D),
        threshold=threshold,
    )
    return SparseCoder(weights, CoderSettings(**settings))


def dense(code: Any, width: int) -> torch.Tensor:
    found = torch.zeros(N, width)
    present = code.values.cpu() != 0
    found[code.positions.cpu()[present], code.features.cpu()[present]] = code.values.cpu()[present]
    return found


@contextmanager
def no_waiting() -> Generator[None]:
    """Any operation for which the host would wait for the GPU raises."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("width", [200, 4096, 16_384, 24_001])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_codes_are_those_of_a_cpu(settings: dict[str, Any], width: int) -> None:
    """Of entries that equal the k-th largest another may be kept: then the values are the same, in order of size."""
    if settings["activation"] == "groupmax":
        width -= width % settings["k"]
    x = whole_numbers(N, D, largest=3, seed=4)
    expected = dense(coder(width, **settings).encoder().encode(x), width)
    found = dense(coder(width, **settings).to(GPU).encoder().encode(x.to(GPU)), width)
    if "top" in settings["activation"]:
        pre = x @ whole_numbers(width, D, largest=4, seed=1).T + whole_numbers(width, largest=9, seed=2)
        assert torch.equal(found[found != 0], pre[found != 0])
        assert torch.equal(found.abs().sort(dim=1).values, expected.abs().sort(dim=1).values)
    else:
        assert torch.equal(found, expected)


@pytest.mark.parametrize("width", [200, 24_001])
def test_a_top_k_and_its_copy_wait_for_nothing(width: int) -> None:
    encoder = coder(width, activation="topk", k=32).to(GPU).encoder()
    x = whole_numbers(N, D, largest=3, seed=4).to(GPU)
    encoder.encode(x)
    with no_waiting():
        code = encoder.encode(x)
        copy = HostCopy([code.positions, code.features, code.values])
    positions, features, values = copy.arrays()
    assert torch.equal(code.positions.cpu(), torch.from_numpy(positions))
    assert torch.equal(code.features.cpu(), torch.from_numpy(features))
    assert torch.equal(code.values.cpu(), torch.from_numpy(values))


def test_one_copy_holds_parts_of_every_type_and_shape() -> None:
    parts = [
        torch.tensor(True),
        torch.tensor([True, False, True]),
        torch.arange(5),
        torch.arange(7, dtype=torch.float32) / 3,
        torch.empty(0),
        torch.arange(6, dtype=torch.int32).reshape(2, 3),
    ]
    copy = HostCopy([part.to(GPU) for part in parts])
    for part, array in zip(parts, copy.arrays(), strict=True):
        assert array.dtype == part.numpy().dtype
        assert array.flags.aligned
        np.testing.assert_array_equal(array, part.numpy())


def test_batches_begin_without_waiting_for_earlier_ones() -> None:
    model, _ = lookup_world(whole_numbers(50, D, largest=3, seed=5).tolist())
    topk = coder(8192, activation="topk", k=8).to(GPU)
    model._module.to(GPU)
    rows = make_rows(n_rows=6, vocab=50)
    stream = CodeStream(model, {"site": topk}, {}, "hooks")
    list(stream.begin(rows, 0, 2).entries())
    with no_waiting():
        batches = [stream.begin(rows, first, first + 2) for first in (0, 2, 4)]
    assert all(len(found.features) for batch in batches for found in batch.entries())


def test_a_copy_to_the_gpu_waits_for_nothing() -> None:
    array = np.arange(1 << 16)
    with no_waiting():
        tensor = to_device(array, GPU)
    np.testing.assert_array_equal(tensor.cpu().numpy(), array)


@pytest.mark.parametrize("batch_size", [1, 3, 11])
def test_a_cache_has_the_bytes_of_one_from_a_cpu(batch_size: int, tmp_path: Path) -> None:
    rows = make_rows(n_rows=11, vocab=50, bos=0, seed=3)
    found = {}
    for device in ("cpu", GPU):
        model, attached = lookup_world(whole_numbers(50, D, largest=3, seed=5).tolist())
        model._module.to(device)
        attached["site"].ae._module.to(device)
        cache = FeatureCache(model, attached, batch_size, options=CacheOptions(buffer_mib=0))
        cache.run(tokens=rows)
        cache.save_splits(3, tmp_path / str(device))
        found[str(device)] = directory_bytes(tmp_path / str(device))
    assert found["cpu"] == found["cuda:0"]
    assert found["cpu"]


def test_a_transformer_is_cached_as_on_a_cpu_but_for_rounding(tmp_path: Path) -> None:
    from sae_auto_interp.cache.reader import CacheReader

    rows = make_rows(n_rows=11, bos=0, seed=3)
    for device in ("cpu", "cuda"):
        model, attached = tiny_world()
        model._module.to(device)
        for handle in attached.values():
            handle.ae._module.to(device)
        cache = FeatureCache(model, attached, 4, options=CacheOptions(activation_dtype="float32"))
        cache.run(tokens=rows)
        manifests = cache.save_splits(2, tmp_path / device)
    for path in manifests:
        on_cpu, on_gpu = (CacheReader(tmp_path / device / path) for device in ("cpu", "cuda"))
        for feature in range(manifests[path].width):
            expected, found = on_cpu.entries(feature), on_gpu.entries(feature)
            np.testing.assert_array_equal(found.locations, expected.locations)
            np.testing.assert_allclose(found.activations, expected.activations, rtol=2e-3, atol=1e-5)


def test_unsound_activations_stop_the_run_and_what_was_stored_before_stays(tmp_path: Path) -> None:
    model, attached = lookup_world([[1, 2, 0], [3, 1, 0], [float("nan"), 3, 0]])
    model._module.to(GPU)
    attached["site"].ae._module.to(GPU)
    rows = TokenRows.from_ids([[0], [1], [0], [1], [2], [0]])
    options = CacheOptions(work_dir=tmp_path / "work", buffer_mib=0)
    with pytest.raises(InputError, match="site gives NaN, infinite or enormous activations"):
        FeatureCache(model, attached, 1, options=options).run(tokens=rows)
    journal = (tmp_path / "work").rglob("run*.safetensors")
    assert len(list(journal)) == 4
