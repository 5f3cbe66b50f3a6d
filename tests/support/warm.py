"""A folder for PATH in which `sae-auto-interp` and `python` are calls of a `warm_server`: no imports at each call."""

import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
LONGEST_START_SECONDS = 120


@contextmanager
def warm_commands() -> Iterator[Path]:
    """The folder; the server ends with the block."""
    with tempfile.TemporaryDirectory() as name:
        folder, path = Path(name), Path(name) / "socket"
        server = subprocess.Popen([sys.executable, HERE / "warm_server.py", path], stdin=subprocess.PIPE)
        try:
            _wait_for(path, server)
            client = shlex.join([sys.executable, "-IS", str(HERE / "warm_client.py"), str(path)])
            for command, first in {"sae-auto-interp": "sae-auto-interp ", "python": ""}.items():
                (folder / command).write_text(f'#!/bin/sh\nexec {client} {first}"$@"\n')
                (folder / command).chmod(0o755)
            yield folder
        finally:
            server.communicate()


def _wait_for(path: Path, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + LONGEST_START_SECONDS
    while not path.exists():
        assert server.poll() is None, "the server of warm commands did not start"
        assert time.monotonic() < end, "the server of warm commands takes too long to start"
        time.sleep(0.05)
