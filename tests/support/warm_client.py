"""One call of `warm_server`: hands over streams, folder, environment and arguments; exits with the call's status."""

import json
import os
import socket
import struct
import sys
from pathlib import Path

NUMBER = struct.Struct("<i")


def begin(
    path: str, arguments: list[str], streams: list[int], environment: dict[str, str]
) -> tuple[socket.socket, int]:
    """The connection on which the exit status will come, and the call's process id."""
    server = socket.socket(socket.AF_UNIX)
    server.connect(path)
    socket.send_fds(server, [b"\0"], streams)
    wanted = {"folder": str(Path.cwd()), "environment": environment, "arguments": arguments}
    server.sendall(json.dumps(wanted).encode() + b"\n")
    return server, number(server)


def number(server: socket.socket) -> int:
    received = server.recv(NUMBER.size, socket.MSG_WAITALL)
    if len(received) < NUMBER.size:
        raise EOFError("the server of warm commands is gone")
    return NUMBER.unpack(received)[0]


if __name__ == "__main__":
    connection, _ = begin(sys.argv[1], sys.argv[2:], [0, 1, 2], dict(os.environ))
    sys.exit(number(connection) % 256)
