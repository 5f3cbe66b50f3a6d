"""What decides the result of a Python function, as facts that tell it from another one: for fingerprints of caches.

In: a function, a partial, a bound method or an object that can be called. Out: nested lists of strings, equal for equal
functions in any process. They hold its source (its bytecode where Python has no source, and of lambdas, of which one
line may hold several) and what it refers to: closed-over variables, defaults, bound arguments and globals. Arrays and
weights count by their content. Functions of the same package are followed; those of others stand by name and source.

What cannot be told apart by its content (an open file, a client, a model wrapped by another library) is no fact: then
the caller has to name it, and is told so.
"""

import functools
import hashlib
import inspect
import re
import types
from collections.abc import Callable, Iterator, Mapping, Set as AnySet
from contextlib import suppress
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from sae_auto_interp.errors import InputError
from sae_auto_interp.models.identity import weights_sha256
from sae_auto_interp.types import Array

_PLAIN = (type(None), bool, int, float, complex, str, bytes, PurePath, Enum, range, slice, np.generic, np.dtype)
_PLAIN_OF_TORCH = (torch.dtype, torch.device, torch.Size)
Facts = list[Any]
"""Nested lists of strings."""


def name_of(function: Any) -> str:
    """Module and qualified name of a function; of an object that can be called, those of its class."""
    if isinstance(function, functools.partial):
        return name_of(cast(functools.partial[Any], function).func)
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def source_digest(function: Any) -> str:
    """Hash of the source text; empty where Python has none."""
    try:
        text = inspect.getsource(function if hasattr(function, "__qualname__") else type(function))
    except (OSError, TypeError):
        return ""
    return hashlib.sha256(text.encode()).hexdigest()


def held_facts(function: Callable[..., Any]) -> Facts:
    """All that decides what `function` gives, but for its name. Raises `InputError` naming what is no fact."""
    return _Facts(_package_of(function)).of(function, name_of(function))


class _Facts:
    """One walk through what a function of `package` refers to; what was met before is not followed again."""

    def __init__(self, package: str) -> None:
        self._package = package
        self._met: dict[int, Any] = {}
        """Kept, so that no other object gets its address."""

    def of(self, value: Any, name: str) -> Facts:
        """The facts of a value that is called `name` where it is referred to."""
        if isinstance(value, (*_PLAIN, *_PLAIN_OF_TORCH)):
            return [type(value).__qualname__, repr(value)]
        if isinstance(value, types.ModuleType):
            return ["module", value.__name__]
        if isinstance(value, Tensor | np.ndarray):
            return _array_facts(value, name)
        if id(value) in self._met:
            return ["met", str(list(self._met).index(id(value)))]
        self._met[id(value)] = value
        return [type(value).__qualname__, *self._of_compound(value, name)]

    def _of_compound(self, value: Any, name: str) -> Iterator[Any]:
        if isinstance(value, Mapping):
            items = cast(Mapping[Any, Any], value).items()
            yield from ([self.of(key, name), self.of(each, f"{name}[{key!r}]")] for key, each in items)
        elif isinstance(value, list | tuple):
            yield from (self.of(each, f"{name}[{i}]") for i, each in enumerate(cast(list[Any], value)))
        elif isinstance(value, AnySet):
            yield from sorted((self.of(each, name) for each in cast(AnySet[Any], value)), key=str)
        elif isinstance(value, functools.partial):
            partial = cast(functools.partial[Any], value)
            yield from (self.of(part, name) for part in (partial.func, partial.args, partial.keywords))
        elif isinstance(value, re.Pattern):
            yield from (repr(value.pattern), str(value.flags))
        elif isinstance(value, types.MethodType):
            yield from (self.of(value.__func__, name), self._of_object(value.__self__, name))
        elif isinstance(value, types.FunctionType):
            yield from self._of_function(value)
        elif isinstance(value, type | types.BuiltinFunctionType):
            yield from (name_of(value), source_digest(value))
        elif isinstance(value, nn.Module) or is_dataclass(value) or (callable(value) and _is_own(value, self._package)):
            yield from self._of_object(value, name)
        else:
            raise _no_fact(value, name)

    def _of_function(self, function: types.FunctionType) -> Iterator[Any]:
        source = source_digest(function)
        yield from (name_of(function), source)
        if not _is_own(function, self._package):
            return
        if not source or function.__name__ == "<lambda>":
            yield from _bytecode(function.__code__)
        for kind in (function.__defaults__, function.__kwdefaults__):
            yield self.of(kind, f"a default of {function.__qualname__}")
        for name, value in _variables(function):
            yield [name, self.of(value, name)]

    def _of_object(self, value: Any, name: str) -> Facts:
        """Its class and its attributes; of a module of torch, its weights and the settings of all its parts."""
        if isinstance(value, type):
            return [name_of(value), source_digest(value)]
        facts: Facts = [name_of(type(value)), source_digest(type(value))]
        if isinstance(value, nn.Module):
            facts.append(weights_sha256(value))
            for path, part in value.named_modules():
                settings = {key: each for key, each in vars(part).items() if key[0] != "_" and key != "training"}
                facts += [path, name_of(type(part)), source_digest(type(part)), self.of(settings, f"{name}.{path}")]
            return facts
        attributes = vars(value) if hasattr(value, "__dict__") else {}
        if is_dataclass(value):
            attributes = {field.name: getattr(value, field.name) for field in fields(value)}
        elif not hasattr(value, "__dict__"):
            raise _no_fact(value, name)
        return [*facts, *([key, self.of(each, f"{name}.{key}")] for key, each in sorted(attributes.items()))]


def _array_facts(value: Tensor | Array, name: str) -> Facts:
    if isinstance(value, Tensor):
        content = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    elif value.dtype.hasobject:
        raise _no_fact(value, name)
    else:
        content = np.ascontiguousarray(value)
    return [str(value.dtype), str(tuple(value.shape)), hashlib.sha256(content.tobytes()).hexdigest()]


def _bytecode(code: types.CodeType) -> Facts:
    return [code.co_code.hex(), list(code.co_names), [_constant(each) for each in code.co_consts]]


def _constant(value: Any) -> Any:
    if isinstance(value, types.CodeType):
        return _bytecode(value)
    return sorted(map(repr, cast(frozenset[Any], value))) if isinstance(value, frozenset) else repr(value)


def _variables(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function closes over, and the globals that it names."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # not bound yet
            yield name, cell.cell_contents
    for name in sorted(_global_names(function.__code__) & function.__globals__.keys()):
        yield name, function.__globals__[name]


def _global_names(code: types.CodeType) -> set[str]:
    """Names that a function, or one within it, may look up among the globals."""
    inner = (each for each in code.co_consts if isinstance(each, types.CodeType))
    return set(code.co_names).union(*(_global_names(each) for each in inner))


def _package_of(value: Any) -> str:
    return name_of(value).partition(".")[0]


def _is_own(value: Any, package: str) -> bool:
    return _package_of(value) == package


def _no_fact(value: Any, name: str) -> InputError:
    return InputError(
        f"{name}, which a function for CallableCoder refers to, is a {type(value).__qualname__}, and two of these "
        "cannot be told apart: caches of different functions would count as one. Give CallableCoder a version= that "
        "names what the function computes, and another one whenever that changes"
    )
