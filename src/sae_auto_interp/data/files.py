"""Documents from local files: a text file is one document, each line of a JSON-lines file is one."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from sae_auto_interp.errors import InputError
from sae_auto_interp.types import Document

SUFFIXES = (".txt", ".md", ".jsonl")


def documents_from(path: Path, text_field: str = "text") -> Iterator[Document]:
    """Documents of a `.txt` / `.md` file, a `.jsonl` file (its `text_field`), or of all of those in a directory.

    A document is named after its file, relative to the directory, and its line. Raises `InputError`, when it gets
    there, for what is missing, not UTF-8, or no JSON object with a text.
    """
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
        if not files:
            raise InputError(f"text: {path} holds no .txt, .md or .jsonl file")
        for file in files:
            yield from _documents_of(file, file.relative_to(path).as_posix(), text_field)
    elif path.is_file():
        yield from _documents_of(path, path.name, text_field)
    else:
        raise InputError(f"text: there is no file or directory {path}")


def _documents_of(file: Path, name: str, text_field: str) -> Iterator[Document]:
    if file.suffix != ".jsonl":
        yield Document(name, _decoded(file.read_bytes(), str(file)).replace("\r\n", "\n"))
        return
    with file.open("rb") as stream:  # a line ends at a line feed only: JSON strings may hold every other separator
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield Document(f"{name}:{number}", _text_in(line, text_field, f"{file}, line {number}"))


def _text_in(line: bytes, text_field: str, where: str) -> str:
    """The text in one line; half a surrogate pair, which no tokenizer takes, becomes U+FFFD."""
    try:
        value: Any = json.loads(_decoded(line, where))
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: is not valid JSON ({error.msg} at column {error.colno})") from error
    text: Any = cast("dict[str, Any]", value).get(text_field) if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise InputError(f"{where}: expected a JSON object with a text field {text_field!r}, found {_brief(value)}")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: is not UTF-8 ({error.reason} at byte {error.start})") from error


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
