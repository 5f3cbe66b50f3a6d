"""No body takes more memory than it may, however small it was packed, and none without an end is read for ever."""

import asyncio
import gzip
import json
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sae_auto_interp.clients import BilledClient, OpenAIClient, SpendingLog
from sae_auto_interp.clients.http.bodies import MOST_BYTES, PackedBodyError, TooLongBodyError, read_body
from sae_auto_interp.errors import BrokenReplyError, RefusedRequestError
from tests.support.llm_server import LlmServer, Reply, answer, ask

TEXT = bytes(range(256)) * 100


def bare(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


def read(content: bytes, packing: str, most: int = MOST_BYTES, step: int = 1000) -> bytes:
    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(content), step):
            yield content[at : at + step]

    return asyncio.run(read_body(chunks(), packing, most))


PACKED: dict[str, tuple[bytes, str]] = {
    "plain": (TEXT, ""),
    "identity": (TEXT, "identity"),
    "gzip": (gzip.compress(TEXT), "gzip"),
    "in capitals": (gzip.compress(TEXT), "GZIP"),
    "two members": (gzip.compress(TEXT[:1234]) + gzip.compress(TEXT[1234:]), "x-gzip"),
    "padded": (gzip.compress(TEXT) + b"\0" * 2500, "gzip"),
    "deflate": (zlib.compress(TEXT), "deflate"),
    "deflate without header": (bare(TEXT), "deflate"),
}


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("step", [7, 1000, 1 << 20])
def test_what_is_packed_well_is_read(name: str, step: int) -> None:
    content, packing = PACKED[name]
    assert read(content, packing, most=len(TEXT), step=step) == TEXT
    with pytest.raises(TooLongBodyError):
        read(content, packing, most=len(TEXT) - 1, step=step)


@pytest.mark.parametrize(
    ("content", "packing"),
    [
        (b"this is not gzip", "gzip"),
        (gzip.compress(TEXT)[:-9], "gzip"),
        (b"\x78\x9cnonsense", "deflate"),
        (TEXT, "br"),
        (TEXT, "zstd"),
        (gzip.compress(gzip.compress(TEXT)), "gzip, gzip"),
        (TEXT, "\x1b[31m"),
    ],
)
def test_what_is_not_packed_so_is_refused(content: bytes, packing: str) -> None:
    with pytest.raises(PackedBodyError):
        read(content, packing)


def test_an_empty_body_needs_no_packing() -> None:
    assert read(b"", "gzip") == b""


def test_a_packed_answer_is_read_and_asked_for() -> None:
    body = gzip.compress(answer("yes").body)
    with LlmServer([Reply(200, body, {"Content-Encoding": "gzip", "Content-Type": "application/json"})]) as server:
        (response,) = ask(OpenAIClient(base_url=server.base_url, model="m"))
        assert server.requests[0].headers["Accept-Encoding"] == "gzip, deflate"
    assert response.text == "yes"


@pytest.mark.parametrize("packing", ["br", "zstd"])
def test_a_packing_that_was_not_asked_for_is_a_broken_reply(packing: str) -> None:
    with (
        LlmServer([Reply(200, b"\x1b\x03", {"Content-Encoding": packing})]) as server,
        pytest.raises(BrokenReplyError, match=f"its Content-Encoding is '{packing}'"),
    ):
        ask(OpenAIClient(base_url=server.base_url, model="m"))


def test_a_long_body_is_a_broken_reply_that_may_have_cost() -> None:
    spending_log = SpendingLog()
    with (
        LlmServer([Reply(200, b" " * (MOST_BYTES + 1))]) as server,
        pytest.raises(BrokenReplyError, match="cannot be read: it is longer than 32 MiB"),
    ):
        ask(BilledClient(OpenAIClient(base_url=server.base_url, model="m"), spending_log))
    assert spending_log.total.n_lost == 1


def test_a_body_of_almost_that_length_is_read() -> None:
    body = json.dumps({"error": {"message": "x" * (MOST_BYTES - 100)}}).encode()
    with LlmServer([Reply(400, body)]) as server, pytest.raises(RefusedRequestError, match=r"x{300}"):
        ask(OpenAIClient(base_url=server.base_url, model="m"))


ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import asyncio, resource, sys
from sae_auto_interp.clients import OpenAIClient
from sae_auto_interp.errors import BrokenReplyError
from tests.support.llm_server import QUESTION

async def main():
    client = OpenAIClient(base_url=sys.argv[1], model="m", timeout_seconds=60)
    try:
        await client.check()
    except BrokenReplyError:
        pass
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    broken = 0
    for _ in range(2):
        try:
            await client.generate(QUESTION)
        except BrokenReplyError:
            broken += 1
    await client.close()
    print(broken, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) // 1024)

asyncio.run(main())
"""


async def _endless(writer: asyncio.StreamWriter, head: bytes, chunk: bytes) -> None:
    writer.write(b"HTTP/1.1 " + head + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    try:
        while True:
            writer.write(b"%x\r\n" % len(chunk) + chunk + b"\r\n")
            await writer.drain()
    except ConnectionError:
        pass


def bomb() -> bytes:
    """4 MB of gzip that would become 4 GB."""
    packer = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS)
    zeros = packer.compress(b"\0" * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    member = packer.compress(b"\0" * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return zeros + member * 4000


HOSTILE: dict[str, tuple[bytes, Callable[[], bytes]]] = {
    "without end": (b"200 OK", lambda: b" " * 65_536),
    "an error without end": (b"500 Oh", lambda: b"x" * 65_536),
    "gzip": (b"200 OK\r\nContent-Encoding: gzip", bomb),
    "deflate in an error": (b"429 Busy\r\nContent-Encoding: deflate", lambda: zlib.compress(b"\0" * (1 << 27), 9)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_memory_stays_bounded(name: str) -> None:
    head, chunk = HOSTILE[name][0], HOSTILE[name][1]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await _endless(writer, head, chunk)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def measured() -> str:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            address = "http://{}:{}/v1".format(*server.sockets[0].getsockname())
            work = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-c", PROGRAM, address],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
                timeout=120,
            )
            return work.stdout

    n_broken, mebibytes = map(int, asyncio.run(measured()).split())
    assert n_broken == 2
    assert mebibytes < 150
