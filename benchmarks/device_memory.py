"""Seconds and peak memory of work on a device: a GPU's own account beside the process's."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks.measured import measured

MIB = 1 << 20


@contextmanager
def measured_on(device: str) -> Generator[dict[str, Any], None, None]:
    """A dictionary that holds the figures when the work is done; the GPU has finished it then."""
    figures: dict[str, Any] = {}
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    loaded = torch.cuda.memory_allocated() if on_gpu else 0
    with measured() as taken:
        yield figures
        if on_gpu:
            torch.cuda.synchronize()
    figures.update(taken.as_result())
    if on_gpu:
        figures["device_loaded_mib"] = round(loaded / MIB, 1)
        figures["device_above_loaded_mib"] = round((torch.cuda.max_memory_allocated() - loaded) / MIB, 1)
