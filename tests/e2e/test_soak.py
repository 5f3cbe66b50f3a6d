"""A long run does not grow, leaves a sound file, and is resumed at once.

SAE_AUTO_INTERP_SOAK=1 (`make soak`): 10,000 features of 41 requests each. Otherwise a short form, in which memory is
still being filled and may grow a little more.
"""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.llm_serving import serving
from benchmarks.stores import Store, prepare_store
from tests.support.soak_program import N_ANSWERS

ROOT = Path(__file__).resolve().parents[2]
IS_LONG = bool(os.environ.get("SAE_AUTO_INTERP_SOAK"))
N_FEATURES = 10_000 if IS_LONG else 60
STORE = Store(width=12_288, n_tokens=262_144) if IS_LONG else Store(width=128, n_tokens=16_384)
MOST_GROWTH = 1.1 if IS_LONG else 1.3
MOST_RESUME_SECONDS = 2.0
HOURS = 3600


@pytest.mark.skipif(sys.platform != "linux", reason="reads the resident memory from /proc")
def test_memory_is_flat_and_the_file_sound(tmp_path: Path) -> None:
    folder = prepare_store(STORE, tmp_path)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with serving(0.01) as server:
        program = [sys.executable, "-m", "tests.support.soak_program", str(folder), str(N_FEATURES)]
        done = subprocess.run(
            [*program, f"{server.root}/v1"],
            capture_output=True, text=True, env=environment, cwd=ROOT, timeout=4 * HOURS, check=False,
        )  # fmt: skip
        n_requests = server.stats()["requests"]
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print(found)
    assert n_requests == N_FEATURES * N_ANSWERS
    assert found["quarters_mib"][3] <= MOST_GROWTH * found["quarters_mib"][1], found
    assert found["resume_seconds"] < MOST_RESUME_SECONDS
    with closing(sqlite3.connect(folder / "results.sqlite")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*) FROM scores").fetchone() == (2 * N_FEATURES,)
