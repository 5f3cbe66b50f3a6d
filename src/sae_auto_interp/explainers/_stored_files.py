"""Explanations that others made, read from the forms in which they are kept: `StoredText` of each, with its place.

    JSON lines   {"feature": "h.1:17", "explanation": "..."}, or `module_path` and `index`; `text` or `description`
    Neuronpedia  {"modelId": "gpt2-small", "layer": "6-res-jb", "index": "17", "description": "..."}
    mappings     {"h.1:17": "..."}, {"h.1": {"17": "..."}}, {"17": "..."}; of one text or a list of them
    arrays       of any of these; all of them on one line, over many, or gzipped
    a folder     delphi's: one file per latent, h.1_latent17.txt

Nothing is guessed: what is none of these is an `InputError` with the file and the line.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from sae_auto_interp.errors import InputError
from sae_auto_interp.types import FeatureId

TEXT_FIELDS = ("explanation", "text", "description")
_ADDRESS_FIELDS = ("feature", "module_path", "index", "layer", "modelId")
_LATENT = re.compile(r"(?P<module>.+)_(?:latent|feature|neuron)_?(?P<index>\d{1,18})")
_FORM = 'write one explanation per line: {"feature": "transformer.h.1:17", "explanation": "words for money"}'
_LFS = b"version https://git-lfs.github.com/spec/"
LARGEST_INDEX = 1 << 48


@dataclass(frozen=True, slots=True)
class StoredText:
    """One explanation as its file has it."""

    module: str
    """What the file calls the place; empty where it gives indices alone."""
    index: int
    text: str
    model: str = ""
    """The subject model that the file names; empty where it names none."""


def read_stored(path: Path) -> tuple[list[StoredText], str]:
    """The explanations in the order of the file, and the SHA-256 of its content. Raises `InputError`."""
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise InputError(f"explainers.stored: there is no file {path}")
    content = path.read_bytes()
    texts = list(_in_content(_unpacked(content, path), path))
    if not texts:
        raise InputError(f"explainers.stored: {path} holds no explanation; {_FORM}")
    return texts, sha256(content).hexdigest()


def _read_folder(path: Path) -> tuple[list[StoredText], str]:
    digest, texts = sha256(), list[StoredText]()
    for file in sorted(path.iterdir()):
        named = _LATENT.fullmatch(file.stem)
        if named is None or file.suffix not in (".txt", ".json") or not file.is_file():
            continue
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)}\n".encode("utf-8", "surrogatepass"))
        digest.update(content)
        texts += [StoredText(named["module"], int(named["index"]), text) for text in _texts_in(content, file)]
    if not texts:
        raise InputError(f"explainers.stored: {path} holds no file such as layers.2_latent17.txt; {_FORM}")
    return texts, digest.hexdigest()


def _texts_in(content: bytes, file: Path) -> list[str]:
    """Return the texts in a latent's own file: text, or text as JSON, as delphi writes it."""
    text = _decoded(content, str(file)).strip()
    if text[:1] in ('"', "["):
        value = _parsed(text, str(file))
        return _texts_of(value, str(file))
    if not text:
        raise InputError(f"{file}: is empty")
    return [text]


def _unpacked(content: bytes, path: Path) -> bytes:
    if content.startswith(_LFS):
        raise InputError(f"{path} is a Git LFS pointer, not the file; fetch it with `git lfs pull`")
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be unpacked ({error})") from error


def _in_content(content: bytes, path: Path) -> Iterator[StoredText]:
    """One JSON value over all lines, or one per line."""
    lines = content.split(b"\n")
    filled = [(number, line) for number, line in enumerate(lines, 1) if line.strip(b" \t\r\xef\xbb\xbf")]
    if len(filled) > 1 and not _is_whole(filled[0][1]):
        yield from _entries(_parsed_whole(content, path), str(path))
        return
    for number, line in filled:
        where = f"{path}, line {number}"
        yield from _entries(_parsed(_decoded(line, where), where), where)


def _is_whole(line: bytes) -> bool:
    """Whether a first line is a JSON value by itself, or broken in some other way than that it goes on."""
    text = line.decode("utf-8-sig", "replace").strip()
    try:
        _load(text)
    except json.JSONDecodeError as error:
        return error.pos < len(text)
    except (RecursionError, ValueError):
        return True
    return True


def _parsed_whole(content: bytes, path: Path) -> Any:
    text = _decoded(content, str(path))
    try:
        return _load(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: is not valid JSON ({error.msg}); {_FORM}") from error
    except (RecursionError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({_reason(error)}); {_FORM}") from error


def _parsed(text: str, where: str) -> Any:
    try:
        return _load(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: is not valid JSON ({error.msg}); {_FORM}") from error
    except (RecursionError, ValueError) as error:
        raise InputError(f"{where}: cannot be read as JSON ({_reason(error)}); {_FORM}") from error


def _load(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_without_repetition)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"{_shown(twice)} stands there twice")
    return found


def _reason(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:120]


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: is not UTF-8 ({error.reason})") from error


def _entries(value: Any, where: str) -> Iterator[StoredText]:
    """The explanations in one JSON value."""
    if isinstance(value, list):
        for number, each in enumerate(cast("list[Any]", value), 1):
            if not isinstance(each, dict):
                raise InputError(f"{where}, entry {number}: is {_shown(each)}, not an explanation; {_FORM}")
            yield from _entries(each, f"{where}, entry {number}")
        return
    if not isinstance(value, dict):
        raise InputError(f"{where}: is {_shown(value)}, not an explanation; {_FORM}")
    fields = cast("dict[str, Any]", value)
    if any(name in fields for name in (*_ADDRESS_FIELDS, *TEXT_FIELDS)):
        yield from _entry(fields, where)
        return
    if list(fields) == ["explanations"]:
        yield from _entries(fields["explanations"], where)
        return
    for key, each in fields.items():
        yield from _keyed(key, each, where)


def _entry(fields: Mapping[str, Any], where: str) -> list[StoredText]:
    """An object with an address and a text, or with several, as Neuronpedia gives a whole feature."""
    texts = [fields[name] for name in TEXT_FIELDS if fields.get(name) is not None][:1]
    if not texts and isinstance(fields.get("explanations"), list):
        texts = [_text_of_object(each) for each in fields["explanations"]]
    found = [text for each in texts for text in _texts_of(each, where)]
    if not found:
        raise InputError(f"{where}: no text under any of {', '.join(TEXT_FIELDS)}")
    module, index = _address(fields, where)
    model = fields.get("modelId")
    return [StoredText(module, index, text, model if isinstance(model, str) else "") for text in found]


def _text_of_object(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, Any]", value)
    return next((fields[name] for name in TEXT_FIELDS if name in fields), None)


def _keyed(key: str, value: Any, where: str) -> Iterator[StoredText]:
    """`"h.1:17": text`, `"17": text`, or `"h.1": {"17": text}`."""
    where = f"{where}, {_shown(key)}"
    if isinstance(value, dict):
        for number, each in cast("dict[str, Any]", value).items():
            index = _index(number, where)
            yield from (StoredText(key.strip(), index, text) for text in _texts_of(each, where))
        return
    module, index = _feature(key, where)
    yield from (StoredText(module, index, text) for text in _texts_of(value, where))


def _address(fields: Mapping[str, Any], where: str) -> tuple[str, int]:
    if fields.get("feature") is not None and "index" not in fields:
        return _feature(fields["feature"], where)
    module = next((fields[name] for name in ("module_path", "layer") if fields.get(name) is not None), None)
    if not isinstance(module, str) or not module.strip() or "index" not in fields:
        raise InputError(f"{where}: no feature: give `feature`, or `module_path` and `index`")
    return module.strip(), _index(fields["index"], where)


def _feature(value: Any, where: str) -> tuple[str, int]:
    """Split `module:17` into module and index; for `17` alone the module is empty."""
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if text.isdecimal() and text.isascii():
        return "", _index(text, where)
    module, _, index = text.rpartition(":")
    if not module.strip() or any(character.isspace() for character in module.strip()):
        raise InputError(f"{where}: {_shown(value)} is no feature; write it as transformer.h.1:17")
    return module.strip(), _index(index, where)


def _index(value: Any, where: str) -> int:
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) <= 18:
        text = int(text)
    if isinstance(text, int) and not isinstance(text, bool) and 0 <= text < LARGEST_INDEX:
        return text
    raise InputError(f"{where}: {_shown(value)} is no feature's index; give a whole number")


def _texts_of(value: Any, where: str) -> list[str]:
    values: list[Any] = [*value] if isinstance(value, list) else [value]
    texts = [_text_of_object(each) for each in values]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise InputError(f"{where}: no text: {_shown(cast(object, value))}")
    return [text.strip() for text in texts]


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        return f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def feature_of(stored: StoredText) -> FeatureId:
    """The feature by the file's own name of its place."""
    return FeatureId(stored.module, stored.index)
