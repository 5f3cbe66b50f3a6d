"""The memory that a plan measures is its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from sae_auto_interp.pipeline.planning import sizes
from sae_auto_interp.pipeline.planning.sizes import STATUS, peak_mib

HELD_MIB = 1500
LARGE_PARENT = f"""
import subprocess, sys
held = bytearray(b"x") * ({HELD_MIB} << 20)
subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
"""
CHILD = "from sae_auto_interp.pipeline.planning.sizes import peak_mib; print(peak_mib())"


@pytest.mark.skipif(not STATUS.is_file(), reason="only Linux tells it apart from the parent's")
def test_a_large_process_that_starts_it_is_not_counted() -> None:
    done = subprocess.run([sys.executable, "-c", LARGE_PARENT, CHILD], capture_output=True, text=True, check=True)
    assert 10 < float(done.stdout) < HELD_MIB


def test_a_system_that_does_not_tell_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sizes, "STATUS", tmp_path / "status")
    assert (peak_mib() or 0) > 10
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert peak_mib() is None
