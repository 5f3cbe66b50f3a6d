"""Documents from local files: a text file is one document; each line of a JSON-lines file and each row of a Parquet
file is one.

What a file is, its name says: `.txt`, `.md` or no suffix is text, `.jsonl`, `.ndjson` and `.jsonlines` are JSON lines,
`.parquet` is a table; text and JSON lines may be compressed (`.gz` behind it). Any other type is refused: read as text,
its markup would be what the model is shown.

A Parquet file -> its rows as records, one column of them, some rows at a time. Needs pyarrow (extra `datasets`).
"""

import gzip
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from sae_auto_interp.data.records import ChatField, Extract, Record, TextField
from sae_auto_interp.errors import InputError, MissingExtraError
from sae_auto_interp.files import parse_json, refuse_lfs_pointer
from sae_auto_interp.types import Document

ROWS_AT_A_TIME = 256


def parquet_records(file: Path, name: str, column: str) -> Iterator[Record]:
    """Each row, with `column` alone, named by its number from 1; raises `InputError` for a damaged file or another
    schema.
    """
    try:
        pyarrow: Any = import_module("pyarrow")
        parquet: Any = import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingExtraError("pyarrow", "datasets", f"reading {file}") from error
    number = 0
    unreadable: tuple[type[Exception], ...] = (pyarrow.ArrowException, OSError)
    try:
        with parquet.ParquetFile(file) as table:
            columns = tuple(f"{field.name} ({field.type})" for field in table.schema_arrow)
            if column not in table.schema_arrow.names:
                raise InputError(f"{file}: there is no column {column!r}; there are: {', '.join(columns)}")
            for batch in table.iter_batches(ROWS_AT_A_TIME, columns=[column]):
                for value in batch.column(column).to_pylist():
                    number += 1
                    yield Record(f"{name}:{number}", f"{file}, row {number}", {column: value}, columns)
    except unreadable as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{file} cannot be read as Parquet, after {number} rows: {reason}") from error


TEXT = (".txt", ".md", "")


JSON_LINES = (".jsonl", ".ndjson", ".jsonlines")


PARQUET = ".parquet"


COMPRESSED = ".gz"


LISTED = ".txt, .md, .jsonl, .ndjson, .jsonlines or .parquet"


LOADERS = {".json": "hf:json", ".csv": "hf:csv", ".tsv": "hf:csv", ".arrow": "hf:arrow", ".xml": "hf:xml"}
"""{suffix: what reads it as a Hugging Face dataset}."""


_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def documents_from(path: Path, text_field: str = "text", *, extract: Extract | None = None) -> Iterator[Document]:
    """Documents of a text, JSON-lines or Parquet file, or of all of those in a directory; files of other types in it
    are left out.

    The text of a record is its `text_field`, or what `extract` makes of it; a record without any is passed over. A
    document is named after its file, relative to the directory, and its line. Raises `InputError`, when it gets there,
    for what is missing, empty, damaged, not UTF-8, of a type that is not read, or no record with a text.
    """
    extract = extract or TextField(text_field)
    if path.is_dir():
        for file in _files_in(path, extract):
            yield from _documents_of(file, file.relative_to(path).as_posix(), extract)
    elif path.is_file():
        if path.stat().st_size == 0:
            raise InputError(f"text: {path} is empty")
        for document in _documents_of(path, path.name, extract):
            if _type_of(path) == "text" and not document.text.strip():
                raise InputError(f"text: {path} is empty")
            yield document
    elif path.exists():
        raise InputError(f"text: {path} is neither a file nor a directory")
    else:
        raise InputError(f"text: there is no file or directory {path}")


def _files_in(folder: Path, extract: Extract) -> list[Path]:
    """Those that are read, in order; the others are counted by suffix."""
    found: list[Path] = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        if file.suffix and _type_of(file) is not None:
            found.append(file)
        else:
            suffixes = extract.passed_over.suffixes
            suffixes[file.suffix or "none"] = suffixes.get(file.suffix or "none", 0) + 1
    if not found:
        raise InputError(f"text: {folder} holds no {LISTED} file{_others(extract)}")
    return found


def _others(extract: Extract) -> str:
    kinds = ", ".join(sorted(extract.passed_over.suffixes))
    return f"; it holds others ({kinds})" if kinds else ""


def _type_of(file: Path) -> str | None:
    """`text`, `lines` or `parquet`; None for a type that is not read."""
    name = file.with_suffix("") if file.suffix.lower() == COMPRESSED else file
    suffix = name.suffix.lower()
    if suffix in TEXT and (suffix or name is file):
        return "text"
    if suffix in JSON_LINES:
        return "lines"
    return "parquet" if suffix == PARQUET and name is file else None


def _documents_of(file: Path, name: str, extract: Extract) -> Iterator[Document]:
    kind = _type_of(file)
    if kind is None:
        raise InputError(_refused(file))
    refuse_lfs_pointer(file)
    if kind == "text":
        if isinstance(extract, ChatField):
            raise InputError(f"{file} is plain text, without a field of messages; leave out data.messages_field")
        yield Document(name, _plain_text(file))
        return
    for record in _json_records(file, name) if kind == "lines" else parquet_records(file, name, extract.field):
        text = extract(record)
        if text is not None:
            yield Document(record.name, text)


def _refused(file: Path) -> str:
    suffix = file.suffix.lower()
    loader = LOADERS.get(suffix)
    if loader is not None:
        how = f"set data.source: {loader} and data.data_files: {file}"
    elif suffix in (COMPRESSED, ".zip", ".bz2", ".xz", ".zst", ".tar", ".7z"):
        how = f"unpack it (only text and JSON lines are read as they are from {COMPRESSED})"
    else:
        how = "give it the suffix .txt if it is plain text; hf:json, hf:csv and others read tables (docs/data.md)"
    return f"text: {file} is of a type that is not read ({LISTED} are); {how}"


def _plain_text(file: Path) -> str:
    with _opened(file) as stream:
        content = stream.read()
    text = _decoded(content, str(file)).replace("\r\n", "\n")
    if "\0" in text:
        raise InputError(f"{file} holds NUL bytes and is no UTF-8 text; if it is UTF-16, save it as UTF-8")
    return text


def _json_records(file: Path, name: str) -> Iterator[Record]:
    with _opened(file) as stream:  # a line ends at a line feed only: JSON strings may hold every other separator
        for number, line in enumerate(stream, start=1):
            if line.strip():
                where = f"{file}, line {number}"
                yield Record(f"{name}:{number}", where, parse_json(_decoded(line, where), where))


@contextmanager
def _opened(file: Path) -> Generator[IO[bytes] | gzip.GzipFile]:
    """Its bytes, unpacked; raises `InputError` for a damaged archive."""
    if file.suffix.lower() != COMPRESSED:
        with file.open("rb") as stream:
            yield stream
        return
    try:
        with gzip.open(file, "rb") as stream:
            yield stream
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{file} cannot be unpacked ({error}); it is damaged, or no gzip file") from error


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        encoding = "UTF-16" if content.startswith(_UTF_16) else "ISO-8859-1"
        raise InputError(
            f"{where}: is not UTF-8 ({error.reason} at byte {error.start}); convert it, e.g. with: "
            f"iconv -f {encoding} -t UTF-8, where {encoding} is the encoding that it has"
        ) from error
