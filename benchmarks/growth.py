"""How memory and speed change with the number of tokens: ours and the peer at 0.25, 1 and 4 million."""

import argparse

from benchmarks.build_workload import prepare
from benchmarks.caching import N_SPLITS
from benchmarks.options import options, parser
from benchmarks.side_by_side import exit_status
from benchmarks.workload import Workload

NAME = "growth"
N_TOKENS = (262_144, 1_048_576, 4_194_304)
QUICK_N_TOKENS = (8_192, 16_384)
QUICK_WIDTH = 512
PROGRAM = "caching"


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    chosen = options(NAME, arguments)
    width = QUICK_WIDTH if chosen.quick else arguments.width
    for n_tokens in QUICK_N_TOKENS if chosen.quick else arguments.tokens:
        workload = Workload(width=width, n_tokens=n_tokens)
        folder = prepare(workload, chosen.work)
        settings = workload.as_settings(batch_rows=arguments.batch_rows, n_splits=N_SPLITS)
        ours = chosen.session.task(NAME, "ours", settings, folder, program=PROGRAM)
        repetitions = arguments.peer_repetitions
        peer = chosen.session.task(NAME, "peer", settings, folder, program=PROGRAM, repetitions=repetitions)
        chosen.session.run([ours, peer])
    return exit_status(chosen.session.out)


def _parser() -> argparse.ArgumentParser:
    made = parser(NAME, __doc__)
    made.add_argument("--width", type=int, default=4096)
    made.add_argument(
        "--batch-rows", type=int, default=8, help="few, so that the model's own pass does not drown the rest"
    )
    made.add_argument("--tokens", type=int, nargs="+", default=list(N_TOKENS))
    made.add_argument("--peer-repetitions", type=int, default=1, help="it takes a quarter of an hour for 4 M tokens")
    return made


if __name__ == "__main__":
    raise SystemExit(main())
