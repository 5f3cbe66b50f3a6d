"""Start `llm_server` in a process of its own, and read its statistics."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SERVER = Path(__file__).with_name("llm_server.py")
PATIENCE_SECONDS = 20.0


class Served:
    """A running server."""

    def __init__(self, port: int) -> None:
        self.root = f"http://127.0.0.1:{port}"

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.root}/stats", timeout=PATIENCE_SECONDS) as answer:
            return json.load(answer)

    def forget(self) -> None:
        """Count from here on."""
        with urllib.request.urlopen(f"{self.root}/reset", data=b"", timeout=PATIENCE_SECONDS):
            pass


@contextmanager
def serving(latency_seconds: float) -> Generator[Served, None, None]:
    """A server on a free port, up to the end of the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    process = subprocess.Popen([sys.executable, str(SERVER), str(port), str(latency_seconds)])
    try:
        _wait_for(port)
        yield Served(port)
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
