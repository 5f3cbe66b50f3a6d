"""A scripted OpenAI-compatible server on a real loopback socket, with the faults that real servers have.

    with LlmServer([rate_limited(retry_after="0"), answer("yes")]) as server:
        OpenAIClient(base_url=server.base_url, model="scripted")

The script is a list of replies, given in order of arrival, or a function from the request to a reply. Every
request is kept in `server.requests`. A script that ran out answers 418, which no client may retry.
"""

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self

from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Message, Request, Response

QUESTION = Request(messages=(Message("system", "You judge."), Message("user", "Does it fit?")))


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    fault: Literal["reset", "stall", "truncate"] | None = None


@dataclass(frozen=True)
class Received:
    method: str
    path: str
    headers: Mapping[str, str]
    raw_body: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw_body)


Script = Sequence[Reply] | Callable[[Received], Reply]


def json_reply(value: object, status: int = 200) -> Reply:
    return Reply(status, json.dumps(value).encode())


def chat(choice: object, usage: object = None, model: str = "scripted") -> Reply:
    """A chat completion of one choice, exactly as given."""
    body: dict[str, object] = {"object": "chat.completion", "model": model, "choices": [choice]}
    return json_reply(body if usage is None else body | {"usage": usage})


def answer(text: str | None, finish_reason: str = "stop", logprobs: object = None) -> Reply:
    """A well-formed answer that cost 11 + 7 tokens."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": logprobs}
    return chat(choice, {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18})


def error(status: int, message: str = "something is wrong") -> Reply:
    return json_reply({"error": {"message": message, "type": "scripted", "code": status}}, status)


def rate_limited(retry_after: str | None = None) -> Reply:
    reply = error(429, "slow down")
    return reply if retry_after is None else replace(reply, headers={**reply.headers, "Retry-After": retry_after})


def connection_reset() -> Reply:
    """The connection is reset before any answer."""
    return Reply(fault="reset")


def stalled() -> Reply:
    """The request is read and nothing is ever answered."""
    return Reply(fault="stall")


def truncated() -> Reply:
    """Half of the promised body, then the connection ends."""
    return replace(answer("a text that never ends"), fault="truncate")


class LlmServer:
    """Context manager; the server runs in its own threads until the block is left."""

    def __init__(self, script: Script) -> None:
        self.requests: list[Received] = []
        self.closing = threading.Event()
        self._script = script
        self._lock = threading.Lock()
        self._http = _HttpServer(self)
        # A short poll: leaving the block waits for it.
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def base_url(self) -> str:
        return f"{self.root}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def reply_to(self, request: Received) -> Reply:
        with self._lock:
            self.requests.append(request)
            number = len(self.requests)
        if callable(self._script):
            return self._script(request)
        return self._script[number - 1] if number <= len(self._script) else error(418, "the script ran out")


class _HttpServer(ThreadingHTTPServer):
    request_queue_size = 256

    def __init__(self, llm: LlmServer) -> None:
        self.llm = llm
        super().__init__(("127.0.0.1", 0), _Handler)

    def shutdown_request(self, request: Any) -> None:
        self.close_request(request)  # without the polite FIN first, so that a reset is a reset

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up waiting is part of the script; the traceback is not worth printing."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def llm(self) -> LlmServer:
        assert isinstance(self.server, _HttpServer)
        return self.server.llm

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._give(self.llm.reply_to(Received(self.command, self.path, dict(self.headers), body)))

    do_GET = do_POST

    def _give(self, reply: Reply) -> None:
        if reply.fault is not None:
            self.close_connection = True
        if reply.fault == "stall":
            self.llm.closing.wait()
        elif reply.fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            self._write(reply)

    def _write(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body[: len(reply.body) // 2] if reply.fault == "truncate" else reply.body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def ask(client: Client, *requests: Request) -> list[Response]:
    """Put the requests (one, if none is given) at once, in an event loop of their own; closes the client."""

    async def together() -> list[Response]:
        try:
            return await asyncio.gather(*(client.generate(request) for request in requests or (QUESTION,)))
        finally:
            await client.close()

    return asyncio.run(together())
