"""How a file comes into being all at once, and how a disk that is full or may not be written to is reported.

A file is written under a temporary name, has every byte on disk, and only then gets its own name. Everything that the
cache writes goes through `DurableFile.write` or `append_line`.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path
from types import TracebackType
from zlib import crc32

from sae_auto_interp.errors import CacheError

READ_BYTES = 1 << 20


class DurableFile:
    """A context manager: the file gets its name when the block ends without an error, with every byte on disk.

    Raises `CacheError` when the disk is full or may not be written to; what was half-written is deleted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            self._stream = temporary_name(path).open("wb", buffering=0)

    def write(self, data: bytes | memoryview, at: int) -> None:
        """Put bytes at an offset from the beginning of the file."""
        with writing(self.path):
            self._stream.seek(at)
            rest = memoryview(data).cast("B")
            while len(rest):
                rest = rest[self._stream.write(rest) :]

    def __enter__(self) -> "DurableFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        temporary = temporary_name(self.path)
        try:
            with writing(self.path), self._stream:
                if kind is None:
                    os.fsync(self._stream.fileno())
            if kind is None:
                with writing(self.path):
                    put_in_place(temporary, self.path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Within the block an `OSError` becomes a `CacheError` that names the file."""
    try:
        yield
    except OSError as error:
        raise CacheError(
            f"{path} cannot be written ({error}); what is finished is kept: make room, then run the same command again"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file whose name appears only when every byte is on disk; raises `CacheError` when it cannot."""
    with DurableFile(path) as file:
        file.write(text.encode(), at=0)


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file and have it on disk; raises `CacheError` when that fails, and may leave a part of it.

    A part lacks the line feed at its end, and so does the part that a kill leaves.
    """
    with writing(path), path.open("ab", buffering=0) as stream:
        rest = memoryview(f"{line}\n".encode())
        while len(rest):
            rest = rest[stream.write(rest) :]
        os.fsync(stream.fileno())


def temporary_name(path: Path) -> Path:
    """Where a file is written before it gets its name; a killed run leaves it, the next one writes over it."""
    return path.with_name(f".{path.name}.partial")


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename a file whose content is on disk, and have the new name on disk too before returning."""
    temporary.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Have the names that were added to a directory, or taken from it, on disk too."""
    if os.name == "nt":  # there a directory cannot be opened
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Checksum of a file's bytes, for files that are kept; raises `OSError`."""
    with path.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def crc32_of(path: Path) -> int:
    """Checksum of a file's bytes, for what lives only until the merge: cheap, and finds damage; raises `OSError`."""
    found = 0
    with path.open("rb", buffering=0) as stream:
        while piece := stream.read(READ_BYTES):
            found = crc32(piece, found)
    return found
