"""Speed of this checkout beside another commit: caching, and explaining and scoring against a local server.

    python -m benchmarks.pairs BASE [--repetitions 3] [--quick]

BASE is a commit; it is checked out beside, and its own programs measure it, in this environment. The two take turns.
The table has the median of each and the ratio of this checkout to BASE; lines of single repetitions go before it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import caching, llm_throughput
from benchmarks.build_workload import prepare
from benchmarks.child import parsed
from benchmarks.machine import n_cores
from benchmarks.options import WORK
from benchmarks.side_by_side import ROOT
from benchmarks.stores import prepare_store
from benchmarks.workload import Workload

WIDTH = 32768
N_FEATURES = 20


def main() -> int:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("base")
    made.add_argument("--repetitions", type=int, default=3)
    made.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    arguments = made.parse_args()
    jobs = prepared(quick=arguments.quick)
    with tempfile.TemporaryDirectory() as name:
        base = Path(name) / "base"
        subprocess.run(["git", "worktree", "add", "-q", "--detach", base, arguments.base], cwd=ROOT, check=True)
        try:
            for program, (settings, folder) in jobs.items():
                turns = [(base, ROOT)[i % 2] for i in range(2 * arguments.repetitions)]
                found = [(checkout, measure(checkout, program, settings, folder)) for checkout in turns]
                compare(program, *([answer for c, answer in found if c == which] for which in (base, ROOT)))
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", base], cwd=ROOT, check=True)
    return 0


def prepared(*, quick: bool) -> dict[str, tuple[dict[str, Any], Path]]:
    """Program -> its settings and its folder."""
    width = next(iter(caching.QUICK_SIZES)) if quick else WIDTH
    size = (caching.QUICK_SIZES if quick else caching.SIZES)[width]
    workload = Workload(width=width, n_tokens=size.n_tokens, heavy=False)
    store = llm_throughput.QUICK if quick else llm_throughput.STORE
    asked = asdict(store) | llm_throughput.COUNTS | {"latency_seconds": 0.05, "limit": 100}
    n_features = {"n_features": 3 if quick else N_FEATURES}
    return {
        "caching": (
            workload.as_settings(batch_rows=size.batch_rows, n_splits=caching.N_SPLITS), prepare(workload, WORK)
        ),
        "llm_throughput": (asked | n_features, prepare_store(store, WORK)),
    }  # fmt: skip


def measure(checkout: Path, program: str, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(n_cores()))
    variables = os.environ | threads | {"PYTHONPATH": str(checkout / "src"), "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    command = [sys.executable, "-m", f"benchmarks.ours.{program}", json.dumps(settings), str(folder)]
    done = subprocess.run(command, cwd=checkout, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{checkout}: {program} ended with {done.returncode}\n{done.stderr[-2000:]}")
    result: dict[str, Any] = parsed(done.stdout)["result"]
    print(program, "here" if checkout == ROOT else "base", json.dumps(result), flush=True)
    return result


def compare(program: str, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    numbers = [name for name, value in after[0].items() if isinstance(value, int | float)]
    for name in numbers:
        old, new = (statistics.median(result[name] for result in results) for results in (before, after))
        print(f"{program}: {name}: base {old:,.4g}, here {new:,.4g}, ratio {new / old if old else float('nan'):.3f}")


if __name__ == "__main__":
    sys.exit(main())
