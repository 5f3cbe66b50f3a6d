"""A local chat-completions server that answers after a fixed time, as many requests at once as come.

    python -m benchmarks.llm_server PORT LATENCY_SECONDS

Written on asyncio's transports, so that it takes less of the machine than what is measured. `GET /stats` tells how many
requests there were and how many were in flight on average, over the whole and over the middle of the time between the
first request and the last; `POST /reset` forgets them. It speaks to ours and to the peer: each excerpt gets a verdict
that depends on its text, everything else an explanation.
"""

import asyncio
import json
import re
import sys
import time
import zlib
from collections.abc import Sequence

EDGE_FRACTION = 0.1
"""Left out at each end of the time for the steady state."""
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_EXCERPT = re.compile(r"^(?:Excerpt|Example) \d+: ?(.*)$", re.MULTILINE)
_JUDGES = ("Description: ", "Latent explanation:")


class Stats:
    """When requests came and went."""

    def __init__(self) -> None:
        self.changes: list[tuple[float, int]] = []
        self.n = 0
        self.characters = 0

    def began(self, n_characters: int) -> None:
        self.n += 1
        self.characters += n_characters
        self.changes.append((time.perf_counter(), 1))

    def ended(self) -> None:
        self.changes.append((time.perf_counter(), -1))

    def as_json(self) -> dict[str, float]:
        if not self.changes:
            return {"requests": 0}
        first, last = self.changes[0][0], self.changes[-1][0]
        edge = EDGE_FRACTION * (last - first)
        return {
            "requests": self.n,
            "characters": self.characters,
            "seconds": last - first,
            "mean_in_flight": mean_in_flight(self.changes, first, last),
            "steady_in_flight": mean_in_flight(self.changes, first + edge, last - edge),
            "peak_in_flight": peak(self.changes),
        }


def mean_in_flight(changes: Sequence[tuple[float, int]], begin: float, end: float) -> float:
    """Mean number of open requests between two moments; `changes` are (moment, +1 or -1) in order of time."""
    area, n, since = 0.0, 0, begin
    for moment, change in changes:
        if moment > begin:
            until = min(moment, end)
            area += n * max(0.0, until - since)
            since = until
        n += change
    return area / (end - begin) if end > begin else 0.0


def peak(changes: Sequence[tuple[float, int]]) -> int:
    n = most = 0
    for _, change in changes:
        n += change
        most = max(most, n)
    return most


class Connection(asyncio.Protocol):
    """One client's connection: whole requests are cut out of what comes."""

    def __init__(self, stats: Stats, latency: float) -> None:
        self._stats, self._latency = stats, latency
        self._received = bytearray()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._received, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._received) < whole:
                return
            head, body = bytes(self._received[:end]), bytes(self._received[end + 4 : whole])
            del self._received[:whole]
            self._request(head, body)

    def _request(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"POST /v1/chat/completions"):
            self._stats.began(len(body))
            asyncio.get_running_loop().call_later(self._latency, self._answer, body)
        elif head.startswith(b"GET /stats"):
            self._write(self._stats.as_json())
        elif head.startswith(b"POST /reset"):
            self._stats.__init__()
            self._write({})
        else:
            self._write({"object": "list", "data": [{"id": "benchmark", "object": "model"}]})

    def _answer(self, body: bytes) -> None:
        self._stats.ended()
        text = reply(json.loads(body)["messages"])
        self._write({
            "id": "0", "object": "chat.completion", "model": "benchmark",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": len(body) // 4, "completion_tokens": len(text) // 4 + 1},
        })  # fmt: skip

    def _write(self, value: object) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        content = json.dumps(value).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(content)
        self._transport.write(head + content)


def reply(messages: Sequence[dict[str, str]]) -> str:
    """A verdict for each excerpt, or an explanation; it depends on what is asked alone."""
    last = messages[-1]["content"]
    if not any(mark in last for mark in _JUDGES):
        return f"[EXPLANATION]: words of kind {zlib.crc32(last.encode())}"
    return json.dumps([zlib.crc32(text.encode()) % 2 for text in _EXCERPT.findall(last)])


async def serve(port: int, latency: float) -> None:
    """Until the process is ended."""
    stats = Stats()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(stats, latency), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
