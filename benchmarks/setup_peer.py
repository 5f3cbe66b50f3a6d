"""Make the peer's environment: eai-delphi in the version of peer/constraints.txt, with the torch that we use.

    python -m benchmarks.setup_peer [.venv-peer]

An environment made elsewhere serves as well: give the benchmarks its Python with --peer-python, or in the variable
SAE_AUTO_INTERP_PEER_PYTHON. vllm is not installed; peer/stubs stands in for it.
"""

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

from benchmarks.options import PEER_ENVIRONMENT
from benchmarks.side_by_side import ROOT, STUBS
from scripts.setup_environment import SetupError, create_environment, install_torch, python_of, run, torch_choice

CONSTRAINTS = ROOT / "benchmarks" / "peer" / "constraints.txt"
PEER = "eai-"
QUIET = ("-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input")


def main() -> int:
    made = argparse.ArgumentParser(prog="python -m benchmarks.setup_peer", description="Make the peer's environment.")
    made.add_argument("environment", type=Path, nargs="?", default=PEER_ENVIRONMENT)
    environment = made.parse_args().environment.absolute()
    if runs(environment):
        print(f"{environment.name} is ready")
        return 0
    try:
        set_up(environment)
    except SetupError as error:
        raise SystemExit(f"the peer's environment cannot be made: {error}") from error
    print(f"{environment.name} is ready")
    return 0


def set_up(environment: Path) -> None:
    """torch first, in the build that fits the machine; what the peer needs; the peer itself without dependencies."""
    create_environment(environment)
    install_torch(environment, torch_choice())
    needed, peer = requirements(CONSTRAINTS.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "requirements.txt"
        listed.write_text("\n".join(needed) + "\n", encoding="utf-8")
        run(environment, [*QUIET, "-r", str(listed)])
    run(environment, [*QUIET, "--no-deps", *peer])
    if not runs(environment):
        raise SetupError(f"the peer is installed in {environment} but cannot be imported")


def requirements(text: str) -> tuple[list[str], list[str]]:
    """What the peer needs, and the peer's own packages."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [line for line in lines if not line.startswith(PEER)], [line for line in lines if line.startswith(PEER)]


def runs(environment: Path) -> bool:
    """Whether the peer can be imported there."""
    python = python_of(environment)
    if not python.is_file():
        return False
    command = [str(python), "-c", "import delphi.latents"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(STUBS)}, capture_output=True, check=False)
    return done.returncode == 0


if __name__ == "__main__":
    raise SystemExit(main())
