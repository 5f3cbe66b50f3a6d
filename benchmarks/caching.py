"""Caching speed, peak memory and disk: ours, the bare limit and the peer, on the same weights and tokens.

Light and heavy-tailed firing with TopK autoencoders of several widths; ReLU and JumpReLU, whose files the
peer does not read, against the bare limit alone.
"""

import argparse
from dataclasses import dataclass

from benchmarks.build_workload import prepare
from benchmarks.options import Options, options, parser
from benchmarks.side_by_side import exit_status
from benchmarks.workload import Activation, Workload

NAME = "caching"
N_SPLITS = 5
"""The peer's default."""


@dataclass(frozen=True, slots=True)
class Size:
    """Tokens for which one repetition takes some ten seconds, and rows per forward pass."""

    n_tokens: int
    batch_rows: int


SIZES = {4096: Size(262_144, 32), 32768: Size(65_536, 32), 131072: Size(16_384, 8)}
"""By width. The peer holds a batch's dense codes several times over: at 131072 wider batches cost it 14 GiB."""
QUICK_SIZES = {512: Size(4_096, 4)}
COMPARED_WITH_PEER: Activation = "topk"
BARE_ONLY_WIDTH = 32768


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    chosen = options(NAME, arguments)
    sizes = QUICK_SIZES if chosen.quick else {width: SIZES[width] for width in arguments.widths}
    for width, size in sizes.items():
        for heavy in (False, True):
            workload = Workload(width=width, n_tokens=size.n_tokens, heavy=heavy)
            _compare(chosen, workload, size.batch_rows, arguments.peer_repetitions)
        if chosen.quick or width == BARE_ONLY_WIDTH:
            for activation in ("relu", "jumprelu"):
                workload = Workload(width=width, n_tokens=size.n_tokens, activation=activation)
                _compare(chosen, workload, size.batch_rows)
    return exit_status(chosen.session.out)


def _compare(chosen: Options, workload: Workload, batch_rows: int, peer_repetitions: int | None = None) -> None:
    folder = prepare(workload, chosen.work)
    settings = workload.as_settings(batch_rows=batch_rows, n_splits=N_SPLITS)
    tasks = [chosen.session.task(NAME, who, settings, folder) for who in ("ours", "bare")]
    if workload.activation == COMPARED_WITH_PEER:
        tasks.append(chosen.session.task(NAME, "peer", settings, folder, repetitions=peer_repetitions))
    chosen.session.run(tasks)


def _parser() -> argparse.ArgumentParser:
    made = parser(NAME, __doc__)
    made.add_argument("--widths", type=int, nargs="+", choices=SIZES, default=list(SIZES))
    made.add_argument("--peer-repetitions", type=int, help="fewer than the others' (default: as many)")
    return made


if __name__ == "__main__":
    raise SystemExit(main())
