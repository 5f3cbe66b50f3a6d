"""YAML and JSON that users give, read so that whatever is wrong with them is one line with its place.

A parser may raise far more than its own error: of numbers that are none, of impossible dates, of brackets without end.
In YAML a key that stands twice, an anchor that holds itself, and aliases that stand for far more values than the file
has are refused too: the first would be a setting that silently goes, the others take time and memory without bound.
"""

import json
from pathlib import Path
from typing import Any, cast

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from sae_auto_interp.errors import InputError

MOST_YAML_BYTES = 1 << 20
MOST_REPEATED = 10_000
"""Values that aliases may repeat in a YAML file, beside as many as it has."""
LARGEST_BITS = 1024
"""Longest whole number in a YAML file."""
DEEPEST = 100
"""Levels of lists and mappings in a YAML file at most."""
_SHOWN_CHARACTERS = 200
_PARSE_ERRORS = (ValueError, ArithmeticError, LookupError, AttributeError, TypeError)
"""What constructors of PyYAML raise besides its own errors, for values that are not of the type that their tag says."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def read_yaml(path: Path, what: str = "file") -> Any:
    """The content of a YAML file. Raises `InputError` naming the file, and the line where that is known."""
    if path.is_file() and path.stat().st_size > MOST_YAML_BYTES:
        raise InputError(f"{path} has {path.stat().st_size:,} bytes; a {what} has at most {MOST_YAML_BYTES:,}")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not valid YAML: it is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text. Raises `InputError` that names `where`."""
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise InputError(f"{where} is not valid YAML: {_reason(error)}") from error


def parse_json(text: str | bytes, where: str) -> Any:
    """The value of a JSON text. Raises `InputError` that names `where`."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        raise InputError(f"{where}: is not valid JSON ({error.msg} at {place})") from error
    except RecursionError as error:
        raise InputError(f"{where}: is nested too deeply for JSON") from error
    except ValueError as error:  # a number of too many digits, or bytes that are no UTF-8
        raise InputError(f"{where}: is not valid JSON ({str(error)[:_SHOWN_CHARACTERS]})") from error


def is_writable(text: str) -> bool:
    """Whether a text can be a name or stand in a file: it holds no NUL and no half of a character."""
    return "\0" not in text and not any("\ud800" <= each <= "\udfff" for each in text)


def refuse_lfs_pointer(path: Path) -> None:
    """Raises `InputError` for a file in whose place a Git LFS checkout left a pointer; any other is not looked at."""
    with path.open("rb") as stream:
        if stream.read(len(LFS_POINTER)) == LFS_POINTER:
            raise InputError(f"{path} is a Git LFS pointer, not the file itself; fetch it with: git lfs pull")


class _Loader(yaml.SafeLoader):
    """Reads as `yaml.safe_load`, and raises YAMLError with a line for everything that cannot be read."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        if self._depth > DEEPEST:
            mark = cast("Any", self.peek_event()).start_mark  # pyright: ignore[reportUnknownMemberType]
            raise ComposerError(None, None, f"more than {DEEPEST} levels", mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None:
            sizes: dict[int, int | None] = {}
            n = _size(node, sizes)
            if n > 2 * len(sizes) + MOST_REPEATED:
                reason = f"its aliases stand for {n:,} values" if n < 10**9 else "its aliases stand for too many values"
                raise ComposerError(None, None, reason, node.start_mark)
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            value = cast("object", super().construct_object(node, deep))  # pyright: ignore[reportUnknownMemberType]
        except _PARSE_ERRORS as error:
            reason = f"{str(node.value)[:40]!r} is no {node.tag.rpartition(':')[2]} ({error})"
            raise ConstructorError(None, None, reason, node.start_mark) from error
        problem = _problem(value)
        if problem:
            raise ConstructorError(None, None, problem, node.start_mark)
        return value

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Refuses a key that stands there twice; what `<<` merges in may be said anew."""
        said = set[str]()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag.endswith(":merge"):
                continue
            name = str(key.value)
            if name in said:
                reason = f"the key {name[:80]!r} stands there twice"
                raise ConstructorError(None, None, reason, key.start_mark)
            said.add(name)
        return super().construct_mapping(node, deep)  # pyright: ignore[reportUnknownMemberType]


def _reason(error: yaml.YAMLError) -> str:
    """What is wrong, and in which line where that is known."""
    mark = getattr(error, "problem_mark", None)
    said = [part for part in (getattr(error, "context", None), getattr(error, "problem", None)) if part]
    place = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
    return (" ".join(", ".join(said).split()) or " ".join(str(error).split()))[:_SHOWN_CHARACTERS] + place


def _size(node: Any, sizes: dict[int, int | None]) -> int:
    """How many values a node stands for, aliases followed; `sizes` holds those known, and None for those begun."""
    known = sizes.get(id(node), 0)
    if known is None:
        raise ComposerError(None, None, "an anchor holds itself", node.start_mark)
    if known:
        return known
    sizes[id(node)] = None
    sizes[id(node)] = n = 1 + sum(_size(child, sizes) for child in _children(node))
    return n


def _children(node: Any) -> list[Any]:
    if isinstance(node, yaml.MappingNode):
        return [each for pair in cast("list[tuple[Any, Any]]", node.value) for each in pair]
    return cast("list[Any]", node.value) if isinstance(node, yaml.SequenceNode) else []


def _problem(value: object) -> str | None:
    """Why a value may not stand in a file: a text that cannot be written down, a number without end."""
    if isinstance(value, str) and not is_writable(value):
        return f"{value[:40]!r} holds NUL, or half of a character"
    if isinstance(value, int) and value.bit_length() > LARGEST_BITS:
        return "the number has too many digits"
    return None
