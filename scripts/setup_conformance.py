"""Create an environment with the packages of the autoencoder families, in which `tests/*/written_by_*/make.py` run.

    python3 scripts/setup_conformance.py .venv-conformance

The library itself never needs these packages, and its own environment is not touched: what they wrote is committed, and
the tests read that. Standard library only; pip chooses the build of torch.
"""

import subprocess
import sys
import venv
from pathlib import Path

PACKAGES = ("sae-lens==6.54.12", "eai-sparsify==1.3.3")


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    environment = Path(sys.argv[1])
    venv.create(environment, with_pip=True)
    python = environment / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    return subprocess.call([python, "-m", "pip", "install", "--quiet", *PACKAGES])


if __name__ == "__main__":
    sys.exit(main())
