"""Every benchmark in order, then the tables of docs/benchmarks.md.

python -m benchmarks.run_all            for a quiet machine: some hours
python -m benchmarks.run_all --quick    does everything run? figures that mean nothing, kept away from the page
"""

import argparse
import subprocess
import sys
import time

from benchmarks.side_by_side import ROOT

ORDER = ("caching", "growth", "early_stop", "reading", "records", "neighbours", "llm_throughput", "gpu")


def main(argv: list[str] | None = None) -> int:
    """Other options are handed to every benchmark. Exit status 1 when one of them failed."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.run_all", description="Run every benchmark.")
    made.add_argument("--quick", action="store_true", help="tiny sizes")
    made.add_argument("--only", nargs="+", choices=ORDER, default=ORDER)
    arguments, shared = made.parse_known_args(argv)
    shared += ["--quick"] if arguments.quick else []
    failed = [name for name in ORDER if name in arguments.only and not _runs(name, shared)]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    elif not arguments.quick:
        subprocess.run([sys.executable, "-m", "benchmarks.table"], cwd=ROOT, check=True)
    return 1 if failed else 0


def _runs(name: str, options: list[str]) -> bool:
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], cwd=ROOT, check=False)
    print(f"== {name}: {time.monotonic() - started:.0f} s", flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    raise SystemExit(main())
