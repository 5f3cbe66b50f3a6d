"""`sae-auto-interp` and Python scripts, run by forks of one process that has imported what takes seconds to import.

    python warm_server.py SOCKET              the server; ends when its standard input does
    python -IS warm_client.py SOCKET [...]    one call: `sae-auto-interp ...` or `script.py ...`

A call has the caller's arguments, folder, environment and streams, and gives its exit status. One call at a time.
"""

import json
import os
import runpy
import select
import socket
import sys
from pathlib import Path
from typing import Any

import sae_auto_interp.cli
from sae_auto_interp.config import resolve_path
from sae_auto_interp.models.subject import load_subject_model

COMMAND = "sae-auto-interp"


def main(path: str) -> None:
    load_subject_model(resolve_path("embedded:language_model"), device="cpu")  # imports all that a run does
    if not _is_fork_for_a_call(path):
        return
    if sys.argv[0] == COMMAND:
        sae_auto_interp.cli.main()
    else:
        sys.path.insert(0, str(Path(sys.argv[0]).resolve().parent))
        runpy.run_path(sys.argv[0], run_name="__main__")


def _is_fork_for_a_call(path: str) -> bool:
    """Serve calls; true in each child, which has become the call, and false in the server at its end."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
            call, _ = listening.accept()
            with call:
                child = os.fork()
                if child == 0:
                    _become(call)
                    return True
                _, status = os.waitpid(child, 0)
                call.sendall(bytes([os.waitstatus_to_exitcode(status) % 256]))
    return False


def _become(call: socket.socket) -> None:
    """Take over the caller's streams, folder, environment and arguments."""
    _, streams, _, _ = socket.recv_fds(call, 1, 3)
    for own, given in enumerate(streams):
        os.dup2(given, own)
        os.close(given)
    with call.makefile("rb") as sent:
        wanted: dict[str, Any] = json.loads(sent.readline())
    os.chdir(wanted["folder"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    sys.argv = wanted["arguments"]


if __name__ == "__main__":
    main(sys.argv[1])
