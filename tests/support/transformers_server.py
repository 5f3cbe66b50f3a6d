"""`transformers serve`, in this process: the least capable of the real servers, which ignores what it does not know."""

import asyncio
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import torch


@contextmanager
def transformers_serve(model: Path) -> Generator[str]:
    """Serve the model in a folder on a free loopback port; gives the address, with /v1."""
    from transformers.cli.serve import Serve

    class Serving(Serve):
        def start_server(self) -> None:
            """Its own leaves the event loop open behind it."""
            self._thread = threading.Thread(target=lambda: asyncio.run(self.server.serve()))
            self._thread.start()

    torch.set_num_threads(1)
    serving = Serving(
        force_model=str(model), device="cpu", host="127.0.0.1", port=0, non_blocking=True, log_level="critical"
    )
    try:
        deadline = time.monotonic() + 120
        while not serving.server.started:
            assert time.monotonic() < deadline, "transformers serve does not start"
            time.sleep(0.02)
        port = serving.server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        serving.kill_server()
