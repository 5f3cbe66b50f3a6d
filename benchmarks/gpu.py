"""Caching on a CUDA GPU: overhead over the bare limit and peak memory, with a small and a large random model.

Without a GPU it writes one line that says so, and that is no failure.
"""

import argparse

import torch

from benchmarks.caching import N_SPLITS
from benchmarks.options import options, parser
from benchmarks.side_by_side import Task, exit_status

NAME = "gpu"
NO_GPU = "this machine has no CUDA GPU that torch can use"
WIDTH = 131072
SIZES = (
    {"model": "gpt2-small", "activation": "topk", "n_tokens": 1_048_576, "batch_rows": 32},
    {"model": "gpt2-small", "activation": "jumprelu", "n_tokens": 1_048_576, "batch_rows": 32},
    {"model": "2b", "activation": "topk", "n_tokens": 524_288, "batch_rows": 32},
)
QUICK_SIZES = ({"model": "tiny", "activation": "topk", "n_tokens": 4_096, "batch_rows": 4},)
QUICK_WIDTH = 512


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    chosen = options(NAME, arguments)
    device = arguments.device
    unavailable = NO_GPU if device.startswith("cuda") and not torch.cuda.is_available() else None
    width = QUICK_WIDTH if chosen.quick else WIDTH
    for size in QUICK_SIZES if chosen.quick else SIZES:
        settings = size | {"width": width, "ctx_len": 256, "k": 32, "n_splits": N_SPLITS, "device": device}
        folder = chosen.work / "gpu"
        tasks = [
            Task(NAME, who, f"benchmarks.{who}.gpu", settings, folder, unavailable=unavailable)
            for who in ("ours", "bare")
        ]
        chosen.session.run(tasks)
    return exit_status(chosen.session.out)


def _parser() -> argparse.ArgumentParser:
    made = parser(NAME, __doc__)
    made.add_argument("--device", default="cuda", help="cpu, to see whether it runs at all")
    return made


if __name__ == "__main__":
    raise SystemExit(main())
