"""A Parquet file -> its rows as records, one column of them, some rows at a time. Needs pyarrow (extra `datasets`)."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from sae_auto_interp.data.records import Record
from sae_auto_interp.errors import InputError, MissingExtraError

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
