"""Documents from local files: a text file is one document; each line of a JSON-lines file and each row of a Parquet
file is one.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sae_auto_interp.data.parquet import parquet_records
from sae_auto_interp.data.records import ChatField, Extract, Record, TextField
from sae_auto_interp.errors import InputError
from sae_auto_interp.types import Document

SUFFIXES = (".txt", ".md", ".jsonl", ".parquet")


def documents_from(path: Path, text_field: str = "text", *, extract: Extract | None = None) -> Iterator[Document]:
    """Documents of a `.txt` / `.md` file, a `.jsonl` or `.parquet` file, or of all of those in a directory.

    The text of a record is its `text_field`, or what `extract` makes of it. A document is named after its file,
    relative to the directory, and its line. Raises `InputError`, when it gets there, for what is missing, damaged, not
    UTF-8, or no record with a text.
    """
    extract = extract or TextField(text_field)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
        if not files:
            raise InputError(f"text: {path} holds no {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file")
        for file in files:
            yield from _documents_of(file, file.relative_to(path).as_posix(), extract)
    elif path.is_file():
        yield from _documents_of(path, path.name, extract)
    else:
        raise InputError(f"text: there is no file or directory {path}")


def _documents_of(file: Path, name: str, extract: Extract) -> Iterator[Document]:
    if file.suffix in (".jsonl", ".parquet"):
        records = _json_records(file, name) if file.suffix == ".jsonl" else parquet_records(file, name, extract.field)
        for record in records:
            yield Document(record.name, extract(record))
    elif isinstance(extract, ChatField):
        raise InputError(f"{file} is plain text, without a field of messages; leave out data.messages_field")
    else:
        yield Document(name, _decoded(file.read_bytes(), str(file)).replace("\r\n", "\n"))


def _json_records(file: Path, name: str) -> Iterator[Record]:
    with file.open("rb") as stream:  # a line ends at a line feed only: JSON strings may hold every other separator
        for number, line in enumerate(stream, start=1):
            if line.strip():
                where = f"{file}, line {number}"
                yield Record(f"{name}:{number}", where, _parsed(line, where))


def _parsed(line: bytes, where: str) -> Any:
    try:
        return json.loads(_decoded(line, where))
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: is not valid JSON ({error.msg} at column {error.colno})") from error


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: is not UTF-8 ({error.reason} at byte {error.start})") from error
