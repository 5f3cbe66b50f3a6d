"""The journal of half-finished work: which runs are safely on disk, and up to which row.

One JSON object per line, each with a checksum of itself. The first line says whose work it is. A line is added only
after what it promises is on disk; one that a crash cut short was never promised, and is dropped.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from sae_auto_interp.cache.files import append_line, write_text
from sae_auto_interp.errors import CacheError

JOURNAL = "journal.jsonl"


@dataclass(frozen=True, slots=True)
class Promise:
    """Everything before row `rows_done` lies in the runs up to and with these."""

    rows_done: int
    runs: tuple[int, ...]
    """Checksums (CRC-32) of the run files that came into being since the last promise; they are numbered in order."""


class Journal:
    """Opened where it ends; `promises` is what it holds.

    Raises `CacheError` when it is damaged, or belongs to work with another `fingerprint`.
    """

    def __init__(self, directory: Path, fingerprint: str, modules: Sequence[str]) -> None:
        self.path = directory / JOURNAL
        text = self._text()
        complete = text[: text.rfind(b"\n") + 1]
        lines = [self._parsed(line) for line in complete.splitlines()]
        if not lines:
            write_text(self.path, _checked_line({"fingerprint": fingerprint, "modules": list(modules)}) + "\n")
        elif lines[0].get("fingerprint") != fingerprint:
            raise CacheError(
                f"{directory} holds a half-finished cache of another configuration; "
                "delete it or choose another directory"
            )
        elif complete != text:
            write_text(self.path, complete.decode())
        self.promises = [self._promise(line) for line in lines[1:]]

    def promise(self, promise: Promise) -> None:
        """Add a line; the runs that it names must be on disk. Raises `CacheError` when the disk is full."""
        append_line(self.path, _checked_line({"rows_done": promise.rows_done, "runs": list(promise.runs)}))
        self.promises.append(promise)

    def _text(self) -> bytes:
        return self.path.read_bytes() if self.path.is_file() else b""

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(line)
            checksum = content.pop("crc32")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._damaged() from error
        if checksum != _checksum(content):
            raise self._damaged()
        return content

    def _promise(self, line: Mapping[str, Any]) -> Promise:
        try:
            return Promise(int(line["rows_done"]), tuple(map(int, line["runs"])))
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged() from error

    def _damaged(self) -> CacheError:
        return CacheError(f"{self.path} is damaged; delete {self.path.parent} and cache again")


def _checked_line(content: Mapping[str, object]) -> str:
    return json.dumps({**content, "crc32": _checksum(content)})


def _checksum(content: Mapping[str, object]) -> int:
    return crc32(json.dumps(content, sort_keys=True).encode())
