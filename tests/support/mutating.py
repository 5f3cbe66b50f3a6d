"""Random damage of files: bytes of any file, values of JSON files, names in manifests whose checksum is made anew."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np

Mutator = Callable[[bytes, np.random.Generator], bytes]
BAD_NAMES = ("../../escaped", "/nowhere/escaped", "..", "a/../../escaped", "x\x00y", "", "..\\..\\escaped")
BAD_VALUES = (None, True, -1, 0, 2**70, 1e308, "", "x", "../../escaped", [], {}, [[]], "\ud800")


def flip_bits(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 9))):
        changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def set_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    begin = int(rng.integers(len(content)))
    n = int(rng.integers(1, 65))
    return content[:begin] + rng.bytes(min(n, len(content) - begin)) + content[begin + n :]


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(len(content)))]


def insert(content: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(len(content) + 1))
    return content[:at] + rng.bytes(int(rng.integers(1, 33))) + content[at:]


def remove(content: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(len(content)))
    return content[:at] + content[at + int(rng.integers(1, 33)) :]


def swap_blocks(content: bytes, rng: np.random.Generator) -> bytes:
    n = max(1, len(content) // 16)
    a, b = sorted(int(rng.integers(0, max(1, len(content) - n))) for _ in range(2))
    changed = bytearray(content)
    changed[a : a + n], changed[b : b + n] = content[b : b + n], content[a : a + n]
    return bytes(changed[: len(content)])


def zero_block(content: bytes, rng: np.random.Generator) -> bytes:
    begin, n = int(rng.integers(len(content))), int(rng.integers(1, 513))
    return content[:begin] + bytes(min(n, len(content) - begin)) + content[begin + n :]


def change_header(content: bytes, rng: np.random.Generator) -> bytes:
    """A byte of the first part, where safetensors and zip files say what they hold."""
    n = min(len(content), 512)
    changed = bytearray(content)
    changed[int(rng.integers(n))] = int(rng.integers(32, 127))
    return bytes(changed)


def change_digit(content: bytes, rng: np.random.Generator) -> bytes:
    """One digit of a text becomes another: still a number, and another one."""
    places = [i for i, byte in enumerate(content) if 48 <= byte <= 57]
    if not places:
        return flip_bits(content, rng)
    changed = bytearray(content)
    at = places[int(rng.integers(len(places)))]
    changed[at] = 48 + (changed[at] - 48 + int(rng.integers(1, 10))) % 10
    return bytes(changed)


def change_value(content: bytes, rng: np.random.Generator) -> bytes:
    """One value of a JSON file becomes another."""
    value = json.loads(content)
    places = list(_places(value))
    if places:
        holder, key = places[int(rng.integers(len(places)))]
        holder[key] = BAD_VALUES[int(rng.integers(len(BAD_VALUES)))]
    return json.dumps(value).encode()


def change_name(content: bytes, rng: np.random.Generator) -> bytes:
    """A cache's manifest calls its module or a shard by a name that leads elsewhere, with a checksum that is right."""
    fields = json.loads(content)
    name = BAD_NAMES[int(rng.integers(len(BAD_NAMES)))]
    if rng.random() < 0.5:
        fields["module_path"] = name
    else:
        fields["shards"][int(rng.integers(len(fields["shards"])))]["file"] = f"{name}.safetensors"
    del fields["sha256"]
    checksum = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    return json.dumps(fields | {"sha256": checksum}).encode()


def _places(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, dict):
        return [(value, key) for key in value] + [place for each in value.values() for place in _places(each)]
    if isinstance(value, list):
        return [(value, i) for i in range(len(value))] + [place for each in value for place in _places(each)]
    return []


BYTES: tuple[Mutator, ...] = (
    flip_bits, flip_bits, set_bytes, cut, insert, remove, swap_blocks, zero_block, change_header, change_digit,
)  # fmt: skip
JSON: tuple[Mutator, ...] = (*BYTES, change_value, change_value, change_value)
MANIFEST: tuple[Mutator, ...] = (*BYTES, change_value, change_name, change_name, change_name)
