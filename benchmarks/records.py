"""Records per second over 1000 features of a cache of 33 million activations: ours and the peer.

Both with the peer's defaults: windows of 32 tokens on a grid, 40 examples to explain and 50 to score over ten
quantiles, 50 random windows that do not activate, token strings included, in one process. The peer draws both kinds of
activating examples from the same windows; ours first divides the documents between them.
"""

import argparse
from dataclasses import asdict, replace

from benchmarks.options import Options, options, parser
from benchmarks.side_by_side import exit_status
from benchmarks.stores import Store, peer_store_problem, prepare_store

NAME = "records"
WIDTH = 32768
N_TOKENS = 1_048_576
COUNTS = {
    "window": 32, "n_train": 40, "n_test": 50, "n_quantiles": 10, "n_non_activating": 50, "min_examples": 200,
}  # fmt: skip
QUICK = Store(width=256, n_tokens=16_384)
QUICK_FEATURES = 20


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    chosen = options(NAME, arguments)
    for heavy in (False, True):
        wanted = Store(width=arguments.width, n_tokens=arguments.tokens, heavy=heavy)
        store = replace(QUICK, heavy=heavy) if chosen.quick else wanted
        _compare(chosen, store, QUICK_FEATURES if chosen.quick else arguments.features)
    return exit_status(chosen.session.out)


def _compare(chosen: Options, store: Store, n_features: int) -> None:
    folder = prepare_store(store, chosen.work)
    settings = asdict(store) | COUNTS | {"n_features": n_features}
    ours = chosen.session.task(NAME, "ours", settings, folder)
    peer = chosen.session.task(NAME, "peer", settings, folder)
    problem = peer_store_problem(store, folder, chosen.session)
    chosen.session.run([ours, replace(peer, unavailable=problem)])


def _parser() -> argparse.ArgumentParser:
    made = parser(NAME, __doc__)
    made.add_argument("--width", type=int, default=WIDTH)
    made.add_argument("--tokens", type=int, default=N_TOKENS)
    made.add_argument("--features", type=int, default=1000)
    return made


if __name__ == "__main__":
    raise SystemExit(main())
