"""Calls of `warm_server`: commands without the seconds of imports that each would begin with.

`warm_call` is like `subprocess.Popen` for `sae-auto-interp`; `warm_commands` is a folder for PATH, in which
`sae-auto-interp` and `python` are such calls.
"""

import atexit
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.support.warm_client import begin, number

HERE = Path(__file__).parent
LONGEST_START_SECONDS = 120


@cache
def server_socket() -> Path:
    """The socket of this process's server, which is started when it is first asked for, and ends with the process."""
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "socket"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # beside other tests, threads mostly wait for each other
    server = subprocess.Popen([sys.executable, HERE / "warm_server.py", path], stdin=subprocess.PIPE, env=environment)

    def end() -> None:
        server.communicate()
        folder.cleanup()

    atexit.register(end)
    _wait_for(path, server)
    return path


def _wait_for(path: Path, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + LONGEST_START_SECONDS
    while not path.exists():
        assert server.poll() is None, "the server of warm commands did not start"
        assert time.monotonic() < end, "the server of warm commands takes too long to start"
        time.sleep(0.05)


class WarmCall:
    """A running `sae-auto-interp`, as `subprocess.Popen` in text mode with both outputs piped."""

    def __init__(self, arguments: Sequence[str | Path], environment: Mapping[str, str]) -> None:
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()
        with Path(os.devnull).open() as nothing:
            streams = [nothing.fileno(), out_end, err_end]
            words = ["sae-auto-interp", *map(str, arguments)]
            self._connection, self.pid = begin(str(server_socket()), words, streams, dict(environment))
        os.close(out_end)
        os.close(err_end)
        self.stdout, self.stderr = os.fdopen(out, encoding="utf-8"), os.fdopen(err, encoding="utf-8")
        self.returncode: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            self.send_signal(signal.SIGKILL)
        self.wait(timeout=60)
        for stream in (self.stdout, self.stderr, self._connection):
            stream.close()

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._connection.settimeout(timeout)
            self.returncode = number(self._connection)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Both outputs to their ends; kills the call when that takes longer than `timeout` seconds."""
        said: dict[str, str] = {}

        def read(name: str, stream: IO[str]) -> None:
            said[name] = stream.read()

        readers = [threading.Thread(target=read, args=each) for each in (("out", self.stdout), ("err", self.stderr))]
        for reader in readers:
            reader.start()
        end = None if timeout is None else time.monotonic() + timeout
        for reader in readers:
            reader.join(None if end is None else max(0.0, end - time.monotonic()))
        if any(reader.is_alive() for reader in readers):
            self.send_signal(signal.SIGKILL)
            raise TimeoutError(f"the call took longer than {timeout} s")
        self.wait(timeout)
        return said["out"], said["err"]


@contextmanager
def warm_commands() -> Generator[Path]:
    """A folder for PATH in which `sae-auto-interp` and `python` are warm calls."""
    client = shlex.join([sys.executable, "-IS", str(HERE / "warm_client.py"), str(server_socket())])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for command, first in {"sae-auto-interp": "sae-auto-interp ", "python": ""}.items():
            (folder / command).write_text(f'#!/bin/sh\nexec {client} {first}"$@"\n')
            (folder / command).chmod(0o755)
        yield folder
