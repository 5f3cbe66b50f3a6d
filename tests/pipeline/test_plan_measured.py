"""The memory that a plan measures is its own."""

import subprocess
import sys

import pytest

from sae_auto_interp.pipeline.plan_measured import STATUS

HELD_MIB = 1500
LARGE_PARENT = f"""
import subprocess, sys
held = bytearray(b"x") * ({HELD_MIB} << 20)
subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
"""
CHILD = "from sae_auto_interp.pipeline.plan_measured import peak_mib; print(peak_mib())"


@pytest.mark.skipif(not STATUS.is_file(), reason="only Linux tells it apart from the parent's")
def test_a_large_process_that_starts_it_is_not_counted() -> None:
    done = subprocess.run([sys.executable, "-c", LARGE_PARENT, CHILD], capture_output=True, text=True, check=True)
    assert 10 < float(done.stdout) < HELD_MIB
