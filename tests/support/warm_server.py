"""`sae-auto-interp` and Python scripts, run by forks of one process that has imported what takes seconds to import.

    python warm_server.py SOCKET              the server; ends when its standard input does

A call has the caller's arguments, folder, environment and streams. It is answered with its process id as soon as it has
begun, and with its exit status (minus the signal that ended it) when it is over. Calls may run at the same time.
"""

import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any

import sae_auto_interp.cli
from sae_auto_interp.config import resolve_path
from sae_auto_interp.models.subject import load_subject_model

COMMAND = "sae-auto-interp"
NUMBER = struct.Struct("<i")
ALSO_IMPORTED = ("httpx2", "jinja2.ext", "rich.progress", "rich.table")
"""What a run imports besides our modules, and what these import."""


def main(path: str) -> None:
    import_all()
    if not is_call(path):
        return
    if sys.argv[0] == COMMAND:
        sae_auto_interp.cli.main()
    else:
        sys.path.insert(0, str(Path(sys.argv[0]).resolve().parent))
        runpy.run_path(sys.argv[0], run_name="__main__")


def import_all() -> None:
    for module in pkgutil.walk_packages(sae_auto_interp.__path__, "sae_auto_interp."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ALSO_IMPORTED:
        importlib.import_module(name)
    load_subject_model(resolve_path("embedded:language_model"), device="cpu")  # nnsight, transformers' classes
    gc.freeze()  # a collection in a fork would copy every page


def is_call(path: str) -> bool:
    """Serve calls; true in each process that has become one, and false in the server at its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the minders
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
            call, _ = listening.accept()
            with call:
                if os.fork() == 0:
                    listening.close()
                    mind(call)
                    return True
    return False


def mind(call: socket.socket) -> None:
    """Start the process of a call, which alone returns; wait for it, and say how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        become(call)
        return
    call.sendall(NUMBER.pack(pid))
    _, status = os.waitpid(pid, 0)
    call.sendall(NUMBER.pack(os.waitstatus_to_exitcode(status)))
    os._exit(0)


def become(call: socket.socket) -> None:
    """Take over the caller's streams, folder, environment and arguments."""
    _, streams, _, _ = socket.recv_fds(call, 1, 3)
    for own, given in enumerate(streams):
        os.dup2(given, own)
        os.close(given)
    with call.makefile("rb") as sent:
        wanted: dict[str, Any] = json.loads(sent.readline())
    call.close()
    os.chdir(wanted["folder"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    sys.path[:0] = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    sys.argv = wanted["arguments"]


if __name__ == "__main__":
    main(sys.argv[1])
