"""A hub on the loopback device: the few endpoints of huggingface.co that listing and fetching files take.

Repositories are directories below `root`, `owner/name`; each has one commit, also called `main`.
"""

import hashlib
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TAG = "v1"


@dataclass
class Hub:
    """What was asked of the server, and where it is."""

    endpoint: str
    fetched: list[str] = field(default_factory=list)
    """Files whose content was sent, `owner/name/path`."""
    requests: int = 0
    tokens: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)


@contextmanager
def hub_server(root: Path, cache: Path) -> Generator[Hub]:
    """Serve `root`, and let huggingface_hub go there, with an empty local cache at `cache`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(root))
    hub = server.hub = Hub(f"http://127.0.0.1:{server.server_port}")  # pyright: ignore[reportAttributeAccessIssue]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            point_at(patch, hub.endpoint, cache)
            yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def point_at(patch: pytest.MonkeyPatch, endpoint: str, cache: Path) -> None:
    """What HF_ENDPOINT and HF_HUB_CACHE do at start; retries do not wait."""
    from huggingface_hub import constants, hf_api

    patch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)

    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "ENDPOINT", endpoint)
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(hf_api.api, "endpoint", endpoint)


def _handler(root: Path) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Silence."""

        @property
        def hub(self) -> Hub:
            return self.server.hub  # pyright: ignore[reportAttributeAccessIssue]

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            self.hub.requests += 1
            if "Authorization" in self.headers:
                self.hub.tokens.add(self.headers["Authorization"])
            parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
            repo, rest = ("/".join(parts[2:4]), parts[4:]) if parts[0] == "api" else ("/".join(parts[:2]), parts[2:])
            rest = rest or ["revision"]
            revision = rest[1] if len(rest) > 1 else "main"
            if not (root / repo).is_dir():
                self.refuse(404, "RepoNotFound")
            elif repo in self.hub.gated and rest[0] != "revision":
                self.refuse(403, "GatedRepo")
            elif revision not in (COMMIT, TAG, "main"):
                self.refuse(404, "RevisionNotFound")
            elif rest[0] == "revision":
                self.answer({"id": repo, "sha": COMMIT, "private": False, "tags": [], "downloads": 0, "likes": 0})
            elif rest[0] == "tree":
                self.answer(listing(root / repo))
            else:
                self.send_file(root / repo / "/".join(rest[2:]), f"{repo}/{'/'.join(rest[2:])}")

        def send_file(self, file: Path, name: str) -> None:
            if not file.is_file():
                self.refuse(404, "EntryNotFound")
                return
            content = file.read_bytes()
            if self.command == "GET":
                self.hub.fetched.append(name)
            self.reply(200, content, {"ETag": f'"{oid(content)}"', "X-Repo-Commit": COMMIT})

        def answer(self, value: object) -> None:
            self.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def refuse(self, status: int, code: str) -> None:
            self.reply(status, b"{}", {"X-Error-Code": code})

        def reply(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

    return Handler


def listing(repo: Path) -> list[dict[str, object]]:
    files = sorted(p for p in repo.rglob("*") if p.is_file())
    return [
        {"type": "file", "path": p.relative_to(repo).as_posix(), "size": p.stat().st_size, "oid": oid(p.read_bytes())}
        for p in files
    ]


def oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
