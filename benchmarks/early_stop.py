"""What it saves to end the forward pass at the deepest module: an autoencoder at layer 1 of 6, with and without.

The run that computes all layers is ours too: an autoencoder that never fires, 8 features wide, is attached to the last.
"""

import argparse
from dataclasses import replace

from benchmarks.build_workload import prepare
from benchmarks.caching import N_SPLITS
from benchmarks.lines import ALL_LAYERS
from benchmarks.options import options, parser
from benchmarks.side_by_side import Task, exit_status
from benchmarks.workload import Workload

NAME = "early_stop"
WORKLOAD = Workload(width=4096, n_tokens=8_192, d_model=1024, n_layers=6, n_heads=16)
QUICK_WORKLOAD = Workload(width=512, n_tokens=2_048, d_model=64, n_layers=6)


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    chosen = options(NAME, arguments)
    wanted = replace(WORKLOAD, n_tokens=arguments.tokens, d_model=arguments.d_model)
    workload = QUICK_WORKLOAD if chosen.quick else wanted
    folder = prepare(workload, chosen.work)
    settings = workload.as_settings(batch_rows=8, n_splits=N_SPLITS, all_layers=False)
    program = "benchmarks.ours.caching"
    chosen.session.run(
        [
            Task(NAME, "ours", program, settings, folder),
            Task(NAME, ALL_LAYERS, program, settings | {"all_layers": True}, folder),
        ]
    )
    return exit_status(chosen.session.out)


def _parser() -> argparse.ArgumentParser:
    made = parser(NAME, __doc__)
    made.add_argument("--tokens", type=int, default=WORKLOAD.n_tokens)
    made.add_argument("--d-model", type=int, default=WORKLOAD.d_model)
    return made


if __name__ == "__main__":
    raise SystemExit(main())
