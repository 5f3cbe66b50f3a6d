"""What a measurement ran on: facts about hardware and versions, and none that tell one machine from its twin."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "numpy", "scipy", "transformers", "nnsight", "safetensors", "eai-delphi", "eai-sparsify")


def facts() -> dict[str, Any]:
    """Cores that this process may use, memory, versions of what is installed, and torch's threads if it is loaded."""
    return {
        "cpu": cpu_model(),
        "cores": n_cores(),
        "ram_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "threads": n_threads(),
        **({"gpu": gpu} if (gpu := gpu_model()) is not None else {}),
        **{name: found for name in PACKAGES if (found := installed_version(name)) is not None},
    }


def n_cores() -> int:
    """Cores that this process may run on, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def n_threads() -> int:
    """Threads of torch's operations; what the environment asks for where torch is not loaded."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch is not None else int(os.environ.get("OMP_NUM_THREADS", n_cores()))


def cpu_model() -> str:
    """The processor's name as Linux has it; elsewhere the architecture."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def gpu_model() -> str | None:
    """The CUDA GPU that torch uses; None without one, or where torch is not loaded."""
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else None


def installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
