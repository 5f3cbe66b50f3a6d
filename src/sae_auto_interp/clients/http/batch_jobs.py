"""Batches at the server: upload requests, make a batch of them, wait until it is done, collect its lines."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from sae_auto_interp.clients.http.batch_files import ENDPOINT, answers_in, as_upload
from sae_auto_interp.clients.http.bodies import MOST_BYTES
from sae_auto_interp.clients.http.chat_completions import as_ascii
from sae_auto_interp.clients.http.endpoint import HttpEndpoint
from sae_auto_interp.clients.http.json_values import JsonObject, as_list, as_object
from sae_auto_interp.errors import BrokenReplyError, ClientError, MalformedReplyError, RefusedRequestError

_log = logging.getLogger(__name__)

MOST_BYTES_OF_ANSWER = 1 << 18
"""On average, in a file of answers."""
MOST_BYTES_OF_FILE = 2 << 30
_TRIES_OF_BROKEN = 5
_ENDED = ("completed", "failed", "expired", "cancelled")


@dataclass(frozen=True, slots=True)
class BatchJobs:
    http: HttpEndpoint
    poll_seconds: float

    async def upload(self, bodies: Mapping[str, JsonObject]) -> str:
        """Upload an input file; returns its id."""
        content, content_type = as_upload(bodies)
        return _id(self.http.object_in(await self.http.send("POST", "files", content, content_type)))

    async def start(self, file: str) -> str:
        """Make a batch of an input file; returns its id."""
        body = as_ascii({"input_file_id": file, "endpoint": ENDPOINT, "completion_window": "24h"})
        return _id(self.http.object_in(await self.http.send("POST", "batches", body)))

    async def find(self, file: str) -> str | None:
        """The batch that was made of an input file, among the newest hundred."""
        listed = self.http.object_in(await self.http.send("GET", "batches?limit=100"))
        batches = map(as_object, as_list(listed.get("data")))
        return next((_id(batch) for batch in batches if batch.get("input_file_id") == file), None)

    async def collect(self, batch: str, n_requests: int) -> dict[str, JsonObject]:
        """Wait until a batch of this many requests is done; return its answers and errors by `custom_id`.

        Lines are missing of a batch that expired or was cancelled. Raises RefusedRequestError for one that the API
        refused as a whole, or does not know.
        """
        ended = await self._ended(batch)
        if ended.get("status") == "failed":
            problems = [as_object(each) for each in as_list(as_object(ended.get("errors")).get("data"))]
            said = "; ".join(str(each.get("message")) for each in problems[:3]) or "no reason is given"
            raise RefusedRequestError(f"batch {batch} was refused: {self.http.key.quote(said)}")
        lines: dict[str, JsonObject] = {}
        most_bytes = min(MOST_BYTES_OF_FILE, MOST_BYTES + n_requests * MOST_BYTES_OF_ANSWER)
        for kind in ("error_file_id", "output_file_id"):
            file = ended.get(kind)
            if isinstance(file, str) and file:
                lines |= answers_in(await self._content(file, most_bytes))
        return lines

    async def _ended(self, batch: str) -> JsonObject:
        while True:
            try:
                state = self.http.object_in(await self.http.send("GET", f"batches/{batch}"))
            except ClientError as error:
                if not error.is_retryable:
                    raise
                _log.warning("batch %s: no news (%s)", batch, error)
            else:
                if state.get("status") in _ENDED:
                    return state
                counts = as_object(state.get("request_counts"))
                _log.info(
                    "batch %s: %s, %s of %s", batch, state.get("status"), *map(counts.get, ("completed", "total"))
                )
            await asyncio.sleep(self.poll_seconds)

    async def _content(self, file: str, most_bytes: int) -> str:
        """Return the content of a finished batch's file, retrying until it comes: the answers are paid. An unreadable
        one is asked for a few times."""
        n_broken = 0
        while True:
            try:
                response = await self.http.send("GET", f"files/{file}/content", most_bytes=most_bytes)
                if response.is_success:
                    return response.content.decode("utf-8", errors="replace")
                raise self.http.error(response)
            except ClientError as error:
                n_broken += isinstance(error, BrokenReplyError)
                if not error.is_retryable or n_broken == _TRIES_OF_BROKEN:
                    raise
                _log.warning("file %s cannot be had yet (%s)", file, error)
            await asyncio.sleep(self.poll_seconds)


def _id(reply: JsonObject) -> str:
    found = reply.get("id")
    if not isinstance(found, str) or not found:
        raise MalformedReplyError("the answer of the batch API has no id")
    return found
