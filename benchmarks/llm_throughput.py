"""Explain, detection and fuzzing of many features against a local server with a fixed latency: ours and the peer.

Ours at 250 ms and a limit of 100: are the places for requests used, and what does a request cost in processor time,
records, prompts, parsing and storing included? Then both at 50 ms, the peer at each of its settings. A feature takes 41
requests: one explanation, and a hundred examples under two scorers, five in a prompt; ours without the shuffled
control, which the peer does not have.
"""

import argparse
from dataclasses import asdict, replace
from typing import Any

from benchmarks.options import Options, options, parser
from benchmarks.side_by_side import exit_status
from benchmarks.stores import Store, peer_store_problem, prepare_store

NAME = "llm_throughput"
STORE = Store(width=4096, n_tokens=262_144)
QUICK = Store(width=256, n_tokens=16_384)
COUNTS = {
    "window": 32, "n_train": 40, "n_test": 50, "n_quantiles": 10, "n_non_activating": 50, "min_examples": 200,
    "n_shown": 5,
}  # fmt: skip
STEADY = {"latency_seconds": 0.25, "limit": 100}
COMPARED_LATENCY = 0.05
PEER_LIMITS = (100, 1000)
"""The peer's own setting is how many features it works on at once; at most two requests were in flight of each."""


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    chosen = options(NAME, arguments)
    store = QUICK if chosen.quick else STORE
    folder = prepare_store(store, chosen.work)
    settings = asdict(store) | COUNTS | {"n_features": 3 if chosen.quick else arguments.features}
    chosen.session.run([chosen.session.task(NAME, "ours", settings | STEADY, folder)])
    _compare(chosen, store, settings | {"n_features": 3 if chosen.quick else arguments.compared_features})
    return exit_status(chosen.session.out)


def _compare(chosen: Options, store: Store, settings: dict[str, Any]) -> None:
    """Ours and the peer at each of its limits, in turns."""
    folder = prepare_store(store, chosen.work)
    problem = peer_store_problem(store, folder, chosen.session)
    tasks = []
    for limit in PEER_LIMITS:
        asked = settings | {"latency_seconds": COMPARED_LATENCY, "limit": limit}
        peer = chosen.session.task(NAME, "peer", asked, folder)
        tasks.append(replace(peer, unavailable=peer.unavailable or problem))
    ours = settings | {"latency_seconds": COMPARED_LATENCY, "limit": PEER_LIMITS[0]}
    chosen.session.run([chosen.session.task(NAME, "ours", ours, folder), *tasks])


def _parser() -> argparse.ArgumentParser:
    made = parser(NAME, __doc__)
    made.add_argument("--features", type=int, default=200)
    made.add_argument("--compared-features", type=int, default=200, help="where the peer is measured too")
    return made


if __name__ == "__main__":
    raise SystemExit(main())
