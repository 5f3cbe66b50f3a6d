"""The files of OpenAI's Batch API, and the file that remembers which batches there are.

In go requests as JSON lines, each under a name of its own (`custom_id`); out come answers and errors as JSON lines, in
any order. The name is a digest of the request, so that after a restart the same request finds the batch that it is in.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sae_auto_interp.clients.http.errors_inside import Refusal, error_inside, is_of_nothing, nothing_generated
from sae_auto_interp.clients.http.failures import Quote
from sae_auto_interp.clients.http.json_values import JsonObject, as_list, as_object
from sae_auto_interp.errors import ClientError, RateLimitedError, RefusedRequestError, RunDirectoryError, ServerError

ENDPOINT = "/v1/chat/completions"
_BOUNDARY = "sae-auto-interp-f3b1c0a2"


@dataclass(frozen=True, slots=True)
class Submitted:
    """Requests of one input file, and the batch made of it; None while that is not known."""

    file: str
    requests: tuple[str, ...]
    batch: str | None


def request_id(body: JsonObject) -> str:
    """Name of a request: the same body has the same."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode("ascii")).hexdigest()[:40]


def as_upload(bodies: Mapping[str, JsonObject]) -> tuple[bytes, str]:
    """The multipart form that uploads the requests, and its content type."""
    lines = [
        json.dumps({"custom_id": name, "method": "POST", "url": ENDPOINT, "body": body})
        for name, body in bodies.items()
    ]
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n',
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="requests.jsonl"\r\n'
        "Content-Type: application/jsonl\r\n\r\n" + "\n".join(lines) + f"\n\r\n--{_BOUNDARY}--\r\n",
    ]
    return "".join(parts).encode("ascii"), f"multipart/form-data; boundary={_BOUNDARY}"


def answers_in(content: str) -> dict[str, JsonObject]:
    """Lines of an output or error file by `custom_id`; a line that is none is left out."""
    found: dict[str, JsonObject] = {}
    for line in content.splitlines():
        try:
            entry = as_object(json.loads(line))
        except ValueError:
            continue
        name = entry.get("custom_id")
        if isinstance(name, str):
            found[name] = entry
    return found


def body_or_refusal(line: JsonObject, quote: Quote, sent: JsonObject) -> JsonObject | Refusal:
    """The body of a request's answer, or the error that it got; `sent` is the request as it was sent."""
    response, error = as_object(line.get("response")), as_object(line.get("error"))
    body, status = as_object(response.get("body")), response.get("status_code")
    if status == 200:
        inside = error_inside(body)
        if is_of_nothing(body):
            return Refusal(500, "", nothing_generated(is_billed=True), {})
        if inside is None:
            return body
        status, body = inside[0], {"error": inside[1]}
    code = status if isinstance(status, int) else 500 if error.get("code") == "batch_expired" else 0
    return Refusal(code, json.dumps(body), _error(code, quote(_message(error, body))), sent)


def _message(error: JsonObject, body: JsonObject) -> str:
    return str(error.get("message") or as_object(body.get("error")).get("message") or "no reason is given")


def _error(status: int, said: str) -> ClientError:
    if status == 429:
        return RateLimitedError(f"in the batch: {said}")
    if status >= 500:
        return ServerError(f"in the batch: {said}", status=status)
    return RefusedRequestError(f"in the batch, {status or 'None'}: {said}")


@dataclass(frozen=True, slots=True)
class BatchFile:
    """What was submitted, one JSON line per step, written before the next step is taken."""

    path: Path

    def load(self) -> list[Submitted]:
        """Everything that was submitted. Raises RunDirectoryError for a damaged file."""
        submitted: dict[str, Submitted] = {}
        for entry in self._entries():
            if "file" not in entry:
                continue
            file, batch = str(entry["file"]), entry.get("batch")
            earlier = submitted.get(file, Submitted(file, (), None))
            requests = tuple(str(name) for name in as_list(entry.get("requests"))) or earlier.requests
            submitted[file] = Submitted(file, requests, batch if isinstance(batch, str) else earlier.batch)
        return list(submitted.values())

    def refused(self) -> set[str]:
        """Parameters that the server does not take. Raises RunDirectoryError for a damaged file."""
        return {str(entry["refused"]) for entry in self._entries() if "refused" in entry}

    def note_refused(self, parameter: str) -> None:
        self._append({"refused": parameter})

    def note_file(self, file: str, requests: Sequence[str]) -> None:
        self._append({"file": file, "requests": list(requests)})

    def note_batch(self, file: str, batch: str) -> None:
        self._append({"file": file, "batch": batch})

    def _entries(self) -> list[JsonObject]:
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        entries: list[JsonObject] = []
        for number, line in enumerate(lines, 1):
            try:
                entries.append(as_object(json.loads(line)))
            except ValueError as error:
                if number < len(lines):
                    raise RunDirectoryError(f"{self.path}, line {number} is damaged; delete the file") from error
                # else the process died while it wrote this: the step was not taken
        return entries

    def _append(self, entry: JsonObject) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        begun = self.path.read_bytes() if self.path.is_file() else b""
        torn = begun and not begun.endswith(b"\n")
        with self.path.open("ab") as stream:
            stream.write((b"\n" if torn else b"") + json.dumps(entry).encode("ascii") + b"\n")
