"""The 50 nearest features by decoder cosine and by co-occurrence: time and peak memory, ours and the peer.

The peer computes all pairs at once, so it is compared at small widths, over all features; the targets are about ours.
"""

import argparse
from dataclasses import asdict, dataclass, replace

from benchmarks.build_workload import prepare
from benchmarks.options import Options, options, parser
from benchmarks.side_by_side import exit_status
from benchmarks.stores import Store, peer_store_problem, prepare_store
from benchmarks.workload import Workload

NAME = "neighbours"
N = 50
PEER_MAX_WIDTH = 8192
"""Of both kinds: it takes some 30 bytes x width² for co-occurrence, 4 GiB here."""
TOO_WIDE = f"the peer holds matrices of all pairs; it is run up to a width of {PEER_MAX_WIDTH}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Of which features the neighbours are searched: the first `n_features`."""

    width: int
    n_features: int
    n_tokens: int = 0
    """Of the store, for co-occurrence."""


COSINE = (Case(width=8192, n_features=8192), Case(width=131072, n_features=131072))
COOCCURRENCE = (
    Case(width=4096, n_features=4096, n_tokens=131_072),
    Case(width=8192, n_features=8192, n_tokens=131_072),
    Case(width=32768, n_features=1000, n_tokens=1_048_576),
)
QUICK = Case(width=256, n_features=256, n_tokens=8_192)


def main(argv: list[str] | None = None) -> int:
    chosen = options(NAME, _parser().parse_args(argv))
    for case in [QUICK] if chosen.quick else COSINE:
        _cosine(chosen, case)
    for case in [QUICK] if chosen.quick else COOCCURRENCE:
        _cooccurrence(chosen, case)
    return exit_status(chosen.session.out)


def _cosine(chosen: Options, case: Case) -> None:
    workload = Workload(width=case.width, n_tokens=Workload(width=1, n_tokens=0).ctx_len)
    settings = workload.as_settings(kind="decoder", n=N, n_features=case.n_features)
    folder = prepare(workload, chosen.work)
    ours, peer = (chosen.session.task(NAME, who, settings, folder) for who in ("ours", "peer"))
    chosen.session.run([ours, replace(peer, unavailable=peer.unavailable or _too_wide(case))])


def _cooccurrence(chosen: Options, case: Case) -> None:
    store = Store(width=case.width, n_tokens=case.n_tokens)
    settings = asdict(store) | {"kind": "jaccard", "n": N, "n_features": case.n_features}
    folder = prepare_store(store, chosen.work)
    ours, peer = (chosen.session.task(NAME, who, settings, folder) for who in ("ours", "peer"))
    problem = _too_wide(case) or peer_store_problem(store, folder, chosen.session)
    chosen.session.run([ours, replace(peer, unavailable=peer.unavailable or problem)])


def _too_wide(case: Case) -> str | None:
    return TOO_WIDE if case.width > PEER_MAX_WIDTH else None


def _parser() -> argparse.ArgumentParser:
    return parser(NAME, __doc__)


if __name__ == "__main__":
    raise SystemExit(main())
