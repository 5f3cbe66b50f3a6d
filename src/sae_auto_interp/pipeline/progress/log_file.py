"""The library's log as JSON lines in the run directory: time, level, logger, message, and an exception's traceback."""

import json
import logging
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from sae_auto_interp.visible_text import visible, visible_lines

LIBRARY = "sae_auto_interp"


class JsonLines(logging.Handler):
    """Appends each record to a file; what is logged before its folder exists is not kept."""

    def __init__(self, path: Path, level: int = logging.INFO) -> None:
        super().__init__(level)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        if not self._path.parent.is_dir():
            return
        try:
            with self._path.open("a", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(json.dumps(_fields(record)) + "\n")
        except OSError:
            self.handleError(record)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = {
        "unix_seconds": round(record.created, 3),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": visible(record.getMessage()),
    }
    if record.exc_info:
        fields["exception"] = visible_lines(logging.Formatter().formatException(record.exc_info))
    return fields


@contextmanager
def logged_to(path: Path) -> Generator[None, None, None]:
    """Keep what the library logs inside."""
    logger, handler = logging.getLogger(LIBRARY), JsonLines(path)
    level_before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if level_before == logging.NOTSET else min(level_before, logging.INFO))
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level_before)
