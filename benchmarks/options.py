"""The command line that the benchmarks share."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import n_cores
from benchmarks.side_by_side import ROOT, Session

PEER_PYTHON = "SAE_AUTO_INTERP_PEER_PYTHON"
PEER_ENVIRONMENT = ROOT / ".venv-peer"
LINES = ROOT / "docs" / "benchmarks"
WORK = ROOT / "build" / "benchmarks"
"""Workloads, stores and the lines of quick runs; ignored by git."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a benchmark needs to know besides its own sizes."""

    session: Session
    work: Path
    quick: bool
    """Sizes of a smoke run, whose figures mean nothing."""


def parser(benchmark: str, description: str | None) -> argparse.ArgumentParser:
    """The shared options; a benchmark adds its own."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{benchmark}", description=description)
    made.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    made.add_argument("--repetitions", type=int, default=3, help="of every measurement, in turns (default 3)")
    made.add_argument("--threads", type=int, default=n_cores(), help="of torch and BLAS (default: the cores)")
    made.add_argument("--work", type=Path, default=WORK, help="folder for workloads and stores")
    made.add_argument("--out", type=Path, help="file of the JSON lines; it is begun anew")
    made.add_argument("--peer-python", type=Path, help=f"the peer's Python (default: ${PEER_PYTHON}, .venv-peer)")
    return made


def options(benchmark: str, arguments: argparse.Namespace) -> Options:
    """The parsed options; an older file of lines is deleted, for figures are compared within one run only."""
    folder = arguments.work / "quick" if arguments.quick else LINES
    out = (arguments.out or folder / f"{benchmark}.jsonl").absolute()
    if out.is_dir():
        raise SystemExit(f"--out {out} is a folder; give the file that the JSON lines go to")
    out.unlink(missing_ok=True)
    session = Session(
        out=out,
        repetitions=1 if arguments.quick else arguments.repetitions,
        threads=arguments.threads,
        peer_python=peer_python(arguments.peer_python),
    )
    return Options(session, arguments.work.absolute(), arguments.quick)


def peer_python(given: Path | None) -> Path | None:
    """The interpreter of the peer's environment: as given, from the variable, or the one `setup_peer` makes."""
    chosen = given or (Path(os.environ[PEER_PYTHON]) if os.environ.get(PEER_PYTHON) else None)
    if chosen is not None and not chosen.is_file():
        raise SystemExit(f"there is no Python at {chosen}; give that of an environment with eai-delphi")
    default = PEER_ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    return chosen.absolute() if chosen else default if default.is_file() else None
