"""Whatever byte of a run is damaged: nothing is written elsewhere, no result changes in silence, nothing ends in a
traceback.

SAE_AUTO_INTERP_SOAK=1 (`make soak`): 1,000 cases. Otherwise one of each kind of file and command, and some more.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.mutation_program import KINDS

ROOT = Path(__file__).resolve().parents[2]
IS_LONG = bool(os.environ.get("SAE_AUTO_INTERP_SOAK"))
N_CASES = 1000 if IS_LONG else 42
SEED = 20_261


@pytest.mark.skipif(sys.platform == "win32", reason="an alarm bounds each case")
def test_damage_is_said_and_stays_inside(tmp_path: Path) -> None:
    assert sum(len(kind.commands) for kind in KINDS) < N_CASES, "each kind of file is met with each of its commands"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "SAE_AUTO_INTERP_CACHE": str(tmp_path / "answers"),
    }
    program = [sys.executable, "-m", "tests.support.mutation_program", str(tmp_path / "w"), str(N_CASES), str(SEED)]
    done = subprocess.run(
        program, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=4 * 3600 if IS_LONG else 900,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert not found["bad"], json.dumps(found["bad"], indent=1)[:6000]
    assert sum(found["ends"].values()) == N_CASES
    assert found["ends"]["refused"] > N_CASES / 5, "most damage is found"
