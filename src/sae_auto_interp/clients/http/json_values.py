"""Parsed JSON, narrowed one level at a time: a server may send anything."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

JsonObject: TypeAlias = Mapping[str, object]

EMPTY_OBJECT: JsonObject = {}


def as_object(value: object) -> JsonObject:
    """The value if it is a JSON object, else an empty one."""
    return cast(JsonObject, value) if isinstance(value, dict) else EMPTY_OBJECT


def as_list(value: object) -> Sequence[object]:
    """The value if it is a JSON array, else an empty one."""
    return cast(Sequence[object], value) if isinstance(value, list) else ()


def is_list(value: object) -> bool:
    """Return whether a decoded JSON value is an array."""
    return isinstance(value, list)


def as_count(value: object) -> int:
    """The value if it is a whole number of at least 0, else 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
