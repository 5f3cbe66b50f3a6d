"""Whatever goes wrong while a model is loaded, as one `InputError` that names the file where that is known."""

import json
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten

from sae_auto_interp.errors import InputError, SaeAutoInterpError
from sae_auto_interp.model_loading import LOADING

_POINTER = b"version https://git-lfs"
_WEIGHTS = (".bin", ".pt", ".pth")
_LONGEST_REASON = 300
OWN_CODE = "needs code of its own, which is never run here (trust_remote_code is off)"


@contextmanager
def loading_failures(what: str, place: str, failing: str = "cannot be loaded") -> Generator[None]:
    """Hold `LOADING`; raise `InputError` for whatever a loader raises over the files of `place`.

    `what` is the subject of the message: "subject model 'gpt2'"; `failing` is its verb.
    """
    try:
        with LOADING:
            yield
    except SaeAutoInterpError:
        raise
    except Exception as error:  # the border: over files of others, loaders raise anything
        raise InputError(f"{what} {_told(error, place, failing)}") from error


def damaged_file(place: str) -> str | None:
    """Name and fault of the first file in a directory that cannot be what it is called; None where there is none."""
    folder = Path(place)
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        fault = _fault(file) if file.is_file() else None
        if fault is not None:
            return f"{file.name} {fault}"
    return None


def is_pointer(file: Path) -> bool:
    """Whether a file only says where Git LFS keeps the real one."""
    with file.open("rb") as opened:
        return opened.read(len(_POINTER)) == _POINTER


def _told(error: Exception, place: str, failing: str) -> str:
    if "trust_remote_code" in str(error):
        return f"{OWN_CODE}; give a model of an architecture that transformers has"
    fault = damaged_file(place)
    return f"{failing}: {fault} ({reason(error)})" if fault else f"{failing}: {reason(error)}"


def reason(error: Exception) -> str:
    """What an error says, in one line; of a message that holds tracebacks the last line."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if "Traceback" in str(error) else " ".join(lines)
    name = "" if isinstance(error, OSError | ValueError) and text else type(error).__name__
    return shorten(": ".join(filter(None, (name, text))), _LONGEST_REASON, placeholder=" ...")


def _fault(file: Path) -> str | None:
    if is_pointer(file):
        return "is a Git LFS pointer, not the file itself; fetch it with: git lfs pull"
    if file.suffix == ".json":
        return _json_fault(file)
    if file.suffix == ".safetensors":
        return _safetensors_fault(file)
    if file.suffix in _WEIGHTS and not zipfile.is_zipfile(file):
        return None if _begins_as_pickle(file) else "is cut short, or no file of weights"
    return None


def _json_fault(file: Path) -> str | None:
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        return f"is no JSON ({shorten(str(error), 80, placeholder=' ...')})"
    return None


def _safetensors_fault(file: Path) -> str | None:
    """A header of the length that it says, and as many bytes behind it as it promises."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if size < 8 or length > size - 8:
            return "is cut short, or no safetensors file"
        try:
            header: dict[str, dict[str, list[int]]] = json.loads(opened.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            return "is no safetensors file: its header cannot be read"
    promised = 8 + length + max(ends, default=0)
    return None if size == promised else f"has {size:,} bytes instead of {promised:,}; fetch it again"


def _begins_as_pickle(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(1) == b"\x80"
