"""The text that every machine with Python has: the standard library's documentation and source.

In: the running interpreter. Out: `Document`s: each language-reference topic (`pydoc_data.topics`) and each module's
source with its docstrings, in an order that mixes them and depends on nothing but their names. Tests, vendored
copies and files that are not UTF-8 are left out: they are data, not prose. The embedded language model was trained on
this text, and the demo reads it again instead of downloading.
"""

import importlib
import os
import sysconfig
import zlib
from collections.abc import Iterator
from pathlib import Path

from sae_auto_interp.types import Document

_SKIPPED_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "pydoc_data"}
_SKIPPED_PREFIXES = ("lib2to3", "turtledemo", "ensurepip", "encodings", "_sysconfigdata", "config-")


def standard_library_documents(max_chars: int | None = None) -> Iterator[Document]:
    """Yield every topic and module source as one document each, cut to `max_chars` characters."""
    found: dict[str, str | Path] = {**dict(_topics()), **dict(_sources())}
    for name in sorted(found, key=_mixing_order):
        content = found[name]
        text = content if isinstance(content, str) else _read_utf8(content)
        if text:
            yield Document(name=name, text=text[:max_chars])


def is_held_out(document: Document, fraction: float = 0.05) -> bool:
    """Whether a document belongs to the held-out split: decided by its name alone, the same everywhere."""
    return zlib.crc32(document.name.encode()) / 2**32 < fraction


def _mixing_order(name: str) -> tuple[int, str]:
    return zlib.crc32(f"order {name}".encode()), name


def _topics() -> list[tuple[str, str]]:
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    return [(f"topic:{name}", text) for name, text in sorted(topics.items())]


def _sources() -> list[tuple[str, Path]]:
    root = Path(sysconfig.get_paths()["stdlib"])
    found: list[tuple[str, Path]] = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS]  # site-packages may be large
        for path in (Path(folder, name) for name in files if name.endswith(".py")):
            relative = path.relative_to(root)
            if not relative.parts[0].startswith(_SKIPPED_PREFIXES):
                found.append((f"source:{relative.as_posix()}", path))
    return sorted(found)


def _read_utf8(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError):
        return None
