"""A key is in nothing that a run writes: not in its files, its page, its logs, its errors, nor in the cache of answers.

The server sends the key back in every way it can, and every logger writes all it has.
"""

import json
import os
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from sae_auto_interp.results import RESULTS_FILE, ResultStore
from tests.e2e.conftest import PrepareRun
from tests.e2e.runs import environment
from tests.support.llm_server import LlmServer, Received, Reply, answer, connection_reset, json_reply
from tests.support.scripted_llm import explain_and_judge

Done: TypeAlias = subprocess.CompletedProcess[str]
KEY = "sk-planted+7f3a9c51d2"
ESCAPED = KEY.replace("+", "\\u002B")
FORMS = (KEY, ESCAPED, ESCAPED.lower(), KEY.replace("+", "%2B"), KEY[:12])
"""Its first characters are as good."""
PROGRAM = """
import logging, sys
logging.basicConfig(level=logging.DEBUG, filename=sys.argv.pop(1))
from sae_auto_interp.cli import main
main()
"""


class Indiscreet:
    """Complains at the first try of a request, with the key in all that it says; some requests it refuses for good."""

    def __init__(self, is_closed: bool) -> None:
        self.is_closed = is_closed
        self.tries = Counter[bytes]()
        self.n_keys = 0

    def __call__(self, received: Received) -> Reply:
        sent = received.headers.get("Authorization", "")
        self.n_keys += sent == f"Bearer {KEY}"
        if received.method == "GET":
            return explain_and_judge(received)
        said = {"error": {"message": f"not with {sent}", "key": sent}}
        if self.is_closed:
            return json_reply(said, 401)
        return self._with_escapes(self._reply(received, sent, said))

    def _with_escapes(self, reply: Reply) -> Reply:
        """The key in JSON may be written in many ways; it is the name of each model, and no text here has a "+"."""
        body = reply.body.replace(b'"my-model"', b'"%s"' % KEY.encode()).replace(b'"scripted"', b'"%s"' % KEY.encode())
        return replace(reply, body=body.replace(b"+", b"\\u002B"))

    def _reply(self, received: Received, sent: str, said: object) -> Reply:
        self.tries[received.raw_body] += 1
        kind = zlib.crc32(received.raw_body) % 11
        if kind == 0:
            return json_reply(said, 405)  # a failure that stays, and is stored
        if kind == 1:
            return answer("")
        if self.tries[received.raw_body] > 1 or kind > 5:
            return explain_and_judge(received)
        return {
            2: json_reply(said, 500),
            3: Reply(429, json.dumps(said).encode(), {"X-Your-Key": sent, "Retry-After": "0"}),
            4: Reply(200, f"<html>{sent}</html>".encode()),
            5: connection_reset(),
        }[kind]


def written(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file, and what is compressed in the databases."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            yield path.name, content
            yield path.name, b"".join(inflated(content)) if path.suffix == ".sqlite" else b""


def inflated(content: bytes) -> Iterator[bytes]:
    """Every zlib stream that lies whole in a file."""
    for header in (b"x\x9c", b"x\x01"):
        at = content.find(header)
        while at >= 0:
            with suppress(zlib.error):
                yield zlib.decompressobj().decompress(content[at:])
            at = content.find(header, at + 1)


def run_with_key(folder: Path, prepare_run: PrepareRun, is_closed: bool) -> tuple[Done, Indiscreet]:
    llm = Indiscreet(is_closed)
    with LlmServer(llm) as server:
        client = f"client: {{base_url: '{server.base_url}', attempts: 8}}\n"
        command = [sys.executable, "-c", PROGRAM, folder / "debug.log", *prepare_run(folder, client, "run")]
        variables = environment() | {"OPENAI_API_KEY": KEY, "SAE_AUTO_INTERP_CACHE": str(folder / "cache")}
        done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=variables)
    return done, llm


def assert_no_key(folder: Path, done: Done) -> None:
    for name, content in [*written(folder), ("stdout", done.stdout.encode()), ("stderr", done.stderr.encode())]:
        assert not [form for form in FORMS if form.encode() in content], name


def test_a_run_against_a_server_that_repeats_the_key_writes_it_nowhere(tmp_path: Path, prepare_run: PrepareRun) -> None:
    done, llm = run_with_key(tmp_path, prepare_run, is_closed=False)
    assert done.returncode == 0, done.stderr
    assert llm.n_keys > 30, "the key was sent"
    names = {path.name for path in tmp_path.rglob("*")}
    assert {"config.yaml", "results.sqlite", "responses.sqlite", "debug.log", "report.html"} <= names
    log = (tmp_path / "debug.log").read_text()
    assert "[redacted]" in log
    assert log.count("sae_auto_interp") > 10
    with ResultStore.open(tmp_path / "run" / RESULTS_FILE, read_only=True) as store:
        kinds = {failure.kind for _, failure in store.failures()} | {
            trial.failure.kind for _, score in store.scores() for trial in score.trials if trial.failure
        }
    assert {"refused_request", "malformed_reply"} <= kinds, "errors with the server's words were stored"
    assert_no_key(tmp_path, done)


def test_a_run_that_is_turned_away_says_why_without_the_key(tmp_path: Path, prepare_run: PrepareRun) -> None:
    done, llm = run_with_key(tmp_path, prepare_run, is_closed=True)
    assert done.returncode == 2
    assert llm.n_keys > 0
    assert "answered 401: not with Bearer [redacted]" in done.stderr
    assert "Traceback" not in done.stderr
    assert_no_key(tmp_path, done)
    assert os.environ.get("OPENAI_API_KEY") is None
