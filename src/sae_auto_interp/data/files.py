"""Documents from local files: a text file is one document, each line of a JSON-lines file is one."""

import json
from collections.abc import Iterator
from pathlib import Path

from sae_auto_interp.errors import InputError
from sae_auto_interp.types import Document


def documents_from(path: Path, text_field: str = "text") -> Iterator[Document]:
    """Documents of a `.txt` / `.md` file, a `.jsonl` file (its `text_field`), or of all of those in a directory."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix in (".txt", ".md", ".jsonl"))
        if not files:
            raise InputError(f"text: {path} holds no .txt, .md or .jsonl file")
        for file in files:
            yield from documents_from(file, text_field)
    elif not path.is_file():
        raise InputError(f"text: there is no file or directory {path}")
    elif path.suffix == ".jsonl":
        yield from _json_lines(path, text_field)
    else:
        yield Document(name=path.name, text=_read(path))


def _json_lines(path: Path, text_field: str) -> Iterator[Document]:
    for number, line in enumerate(_read(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)[text_field]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f"{path}, line {number}: expected a JSON object with a text field {text_field!r}") from error
        yield Document(name=f"{path.name}:{number}", text=str(text))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"text: {path} is not UTF-8 ({error.reason} at byte {error.start})") from error
