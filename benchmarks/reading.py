"""Time to open a cache of 100 million activations and to read any one feature of it, on a warm page cache."""

import argparse
from dataclasses import asdict

from benchmarks.options import options, parser
from benchmarks.side_by_side import exit_status
from benchmarks.stores import Store, prepare_store

NAME = "reading"
WIDTH = 32768
N_TOKENS = 3_276_800
"""At 32 activations per token, less the few that coincide, just above 100 million."""
QUICK = Store(width=512, n_tokens=8_192)


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    chosen = options(NAME, arguments)
    for heavy in (False, True):
        wanted = Store(width=arguments.width, n_tokens=arguments.tokens, heavy=heavy)
        store = Store(width=QUICK.width, n_tokens=QUICK.n_tokens, heavy=heavy) if chosen.quick else wanted
        settings = asdict(store) | {"n_features": arguments.features}
        chosen.session.run([chosen.session.task(NAME, "ours", settings, prepare_store(store, chosen.work))])
    return exit_status(chosen.session.out)


def _parser() -> argparse.ArgumentParser:
    made = parser(NAME, __doc__)
    made.add_argument("--width", type=int, default=WIDTH)
    made.add_argument("--tokens", type=int, default=N_TOKENS)
    made.add_argument("--features", type=int, default=1000, help="read, chosen at random among those that fire")
    return made


if __name__ == "__main__":
    raise SystemExit(main())
