"""From a name to a component: a file's name in its folder is the component's registered name.

In: a folder (`scorers`) and a name (`detection`), or "package.module:Class" for code from outside.
Out: the class. Names are listed without importing anything, and loading one imports that module only,
so a component may need an optional package that the others do not.

A component module defines exactly one public dataclass: that is the component. Modules whose name begins
with `_` hold what components share and are no components.
"""

import dataclasses
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from sae_auto_interp.errors import InputError, UnknownNameError

COMPONENT_FOLDERS = ("clients", "embedders", "explainers", "judges", "scorers")
"""The folders in which one new file is one new component."""


def component_names(folder: str) -> list[str]:
    """Names registered in a folder, sorted."""
    if folder not in COMPONENT_FOLDERS:
        raise UnknownNameError("component folder", folder, COMPONENT_FOLDERS)
    files = (Path(__file__).parent / folder).glob("*.py")
    return sorted(file.stem for file in files if not file.stem.startswith("_"))


def load_component(folder: str, name: str) -> type[Any]:
    """Class of the component `name`, or of "package.module:Class"."""
    if ":" in name:
        return _load_from_outside(name)
    known = component_names(folder)
    if name not in known:
        raise UnknownNameError(folder.removesuffix("s"), name, known)
    return _component_defined_in(importlib.import_module(f"sae_auto_interp.{folder}.{name}"))


def _component_defined_in(module: ModuleType) -> type[Any]:
    found = [
        value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and dataclasses.is_dataclass(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    ]
    unique = list(dict.fromkeys(found))  # an alias (`RecallScorer = DetectionScorer`) is the same class
    assert len(unique) == 1, f"{module.__name__} must define one public dataclass, found {unique}"
    return unique[0]


def _load_from_outside(address: str) -> type[Any]:
    module_name, _, class_name = address.partition(":")
    if not module_name or not class_name.isidentifier():
        raise InputError(f"{address!r} is not the address of a component; write package.module:Class")
    component = _attribute(_import_from_outside(module_name, address), class_name)
    if not (isinstance(component, type) and dataclasses.is_dataclass(component)):
        raise InputError(f"{address} is no component: make {class_name} a frozen, keyword-only dataclass")
    return component


def _import_from_outside(module_name: str, address: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(f"{missing}."):
            advice = "install the package it is in, or put its folder on PYTHONPATH"
        else:
            advice = f"{module_name} imports it; install it"
        raise InputError(f"cannot load {address}: there is no module {missing!r}; {advice}") from error
    except (ImportError, SyntaxError) as error:
        raise InputError(f"cannot load {address}: importing {module_name} failed: {error}") from error


def _attribute(module: ModuleType, class_name: str) -> object:
    try:
        return getattr(module, class_name)
    except AttributeError:
        public = [name for name, value in vars(module).items() if isinstance(value, type) and not name.startswith("_")]
        raise UnknownNameError(f"class of {module.__name__}", class_name, public) from None
