"""A loopback server with OpenAI's Batch API: files, batches, their states, and what they bring."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

from tests.support.llm_server import Received, Reply, answer, error, json_reply

Line = Mapping[str, Any]
MODEL = "gpt-test"


def well_answered(request: Line) -> Line:
    """The output line of a request that was answered: with its own question in capitals."""
    said = request["body"]["messages"][-1]["content"].upper()
    return {"custom_id": request["custom_id"], "response": {"status_code": 200, "body": json.loads(answer(said).body)}}


@dataclass
class BatchApi:
    """Every batch is in progress for `polls` questions about it, and then `ends` so."""

    line: Callable[[Line], Line | None] = well_answered
    """Request -> line of the output file; None leaves it without one."""
    ends: str = "completed"
    polls: int = 1
    files: dict[str, list[Line]] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    n_created: int = 0

    def __call__(self, received: Received) -> Reply:
        assert received.headers.get("Authorization") == "Bearer sk-planted"
        path = received.path.removeprefix("/v1/")
        if path == f"models/{MODEL}":
            return json_reply({"id": MODEL})
        if path == "files":
            return self._upload(received)
        if path == "batches" and received.method == "POST":
            return self._create(received.body)
        if path.startswith("batches?"):
            return json_reply({"data": list(self.batches.values())})
        if path.startswith("batches/"):
            return self._state(path.removeprefix("batches/"))
        if found := re.fullmatch(r"files/(.+)/content", path):
            lines = self.files.get(found[1])
            return error(404) if lines is None else Reply(200, "\n".join(map(json.dumps, lines)).encode())
        return error(404, "no such path")

    def _upload(self, received: Received) -> Reply:
        head = f"Content-Type: {received.headers['Content-Type']}\r\n\r\n".encode()
        form = BytesParser(policy=HTTP).parsebytes(head + received.raw_body)
        parts = {part.get_param("name", header="content-disposition"): part for part in form.iter_parts()}  # type: ignore[attr-defined]
        assert parts["purpose"].get_content().strip() == "batch"
        lines = [json.loads(line) for line in str(parts["file"].get_content(), "utf-8").splitlines() if line]
        assert all(set(line) == {"custom_id", "method", "url", "body"} for line in lines)
        assert len({line["custom_id"] for line in lines}) == len(lines), "custom_id must be unique"
        name = f"file-{sum(name.startswith('file-') for name in self.files)}"
        self.files[name] = lines
        return json_reply({"id": name, "purpose": "batch"})

    def _create(self, body: Line) -> Reply:
        assert (body["endpoint"], body["completion_window"]) == ("/v1/chat/completions", "24h")
        self.n_created += 1
        name = f"batch-{self.n_created}"
        self.batches[name] = {"id": name, "input_file_id": body["input_file_id"], "status": "validating", "asked": 0}
        return json_reply(self.batches[name])

    def _state(self, name: str) -> Reply:
        if name not in self.batches:
            return error(404, "no such batch")
        batch = self.batches[name]
        batch["asked"] += 1
        if batch["asked"] > self.polls and batch["status"] != self.ends:
            batch |= {"status": self.ends, "output_file_id": f"out-{name}"}
            lines = [self.line(request) for request in self.files[batch["input_file_id"]]]
            self.files[f"out-{name}"] = [line for line in lines if line is not None]
            if self.ends == "failed":
                batch["errors"] = {"data": [{"message": "the file is not valid"}]}
        elif batch["status"] == "validating":
            batch["status"] = "in_progress"
        return json_reply(batch)
