"""A run file with every setting in it and what each means, as `sae-auto-interp config` prints it.

The comments are the docstrings under the fields of the settings' classes, read from their source: what is said in one
place only cannot come to contradict itself.
"""

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import Any, cast

import yaml
from pydantic import BaseModel

from sae_auto_interp import config as settings
from sae_auto_interp.features.config import FeatureConfig
from sae_auto_interp.pipeline.components import COLLABORATORS
from sae_auto_interp.registry import component_names, load_component

COMMENT_WIDTH = 100
REQUIRED = "???"
"""Stands where a run file must say something."""
_SECTIONS: Mapping[str, type] = {
    "data": settings.DataConfig,
    "preflight": settings.PreflightConfig,
    "cache": settings.CacheConfig,
    "features": settings.FeaturesConfig,
}


def commented_run_file(content: Mapping[str, Any]) -> str:
    """The run file that `content` stands for, defaults included; what must be given and is not is `???`."""
    given = {"model": REQUIRED, "autoencoders": [REQUIRED], "client": None} | dict(content)
    whole = settings.parse_config(given).model_dump(mode="json")
    whole["client"] = content.get("client")
    lines = [line for name in whole for line in _entry(name, whole[name])]
    return "\n".join(lines) + "\n"


def component_settings() -> str:
    """What can stand under `explainers`, `scorers` and (as `judge`) in an explainer, with the defaults, as comments."""
    lines: list[str] = []
    for folder in ("explainers", "scorers", "judges"):
        lines += ["", f"# {folder}:"]
        for name in component_names(folder):
            lines += [f"#   {line}" for line in _component(folder, name)]
    return "\n".join(lines).lstrip("\n") + "\n"


def _entry(name: str, value: Any) -> Iterator[str]:
    """One key of the file: a section with a comment over each setting, or a value under its comment."""
    yield ""
    if name == "client":
        yield from _client(value)
        return
    yield from _comment(_docs(settings.RunConfig).get(name), "")
    section = _SECTIONS.get(name)
    if section is None:
        yield from _pair(name, value)
        return
    yield f"{name}:"
    docs = _docs(section) | (_docs(FeatureConfig) if name == "features" else {})
    values = dict(value) | ({} if name != "features" else _record_defaults(value))
    for key, each in values.items():
        yield from _comment(docs.get(key), "  ")
        yield from (f"  {line}" for line in _pair(key, each))


def _record_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of records that are not given; the seed is the run's."""
    fields = [field for field in dataclasses.fields(FeatureConfig) if field.name != "seed"]
    return {field.name: given.get(field.name, field.default) for field in fields}


def _client(value: Mapping[str, Any] | None) -> Iterator[str]:
    """The section as given, or commented out: without it features are explained by the lexical rule."""
    docs = _docs(settings.ClientConfig)
    shown = _with_defaults(settings.ClientConfig, value or {"base_url": "http://127.0.0.1:8000/v1"})
    mark = "" if value else "# "
    yield f"{mark}client:"
    for key, each in shown.items():
        yield from (mark + line for line in _comment(docs.get(key), "  "))
        yield from (f"{mark}  {line}" for line in _pair(key, each))


def _with_defaults(section: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    return section.model_validate(given).model_dump(mode="json")


def _component(folder: str, name: str) -> Iterator[str]:
    component = load_component(folder, name)
    docs = _docs(component)
    yield f"{name}: {inspect.getdoc(component) or ''}".splitlines()[0]
    hints = inspect.get_annotations(component, eval_str=True)
    for field in dataclasses.fields(component):
        if not field.init or hints.get(field.name) in COLLABORATORS or field.default is dataclasses.MISSING:
            continue
        said = docs.get(field.name)
        yield f"  {field.name}: {_flow(field.default)}" + (f"  # {said}" if said else "")


@cache
def _docs(cls: type) -> dict[str, str]:
    """{field: the docstring under it}, of a class and those that it is made from."""
    docs: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        if each.__module__.startswith("sae_auto_interp"):
            docs |= _own_docs(each)
    return docs


def _own_docs(cls: type) -> dict[str, str]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    body = cast(ast.ClassDef, definition).body
    found: dict[str, str] = {}
    for field, after in pairwise(body):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[field.target.id] = " ".join(str(after.value.value).split())
    return found


def _comment(text: str | None, indent: str) -> list[str]:
    width = COMMENT_WIDTH - len(indent)
    return [f"{indent}# {line}" for line in textwrap.wrap(text, width)] if text else []


def _pair(key: str, value: Any) -> list[str]:
    """A setting on one line; a list of mappings with one of them on each."""
    if isinstance(value, list) and any(isinstance(each, dict) for each in cast("list[Any]", value)):
        return [f"{key}:", *(f"  - {_flow(each)}" for each in cast("list[Any]", value))]
    return [f"{key}: {_flow(value)}"]


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=True, width=10_000)
    return text.removesuffix("\n...\n").strip()
