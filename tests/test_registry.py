"""A file's name is a component's name; code from outside is loaded by its address."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from sae_auto_interp import registry
from sae_auto_interp.errors import InputError, UnknownNameError
from sae_auto_interp.registry import COMPONENT_FOLDERS, component_names, load_component

COMPONENTS = [(folder, name) for folder in COMPONENT_FOLDERS for name in component_names(folder)]


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_first_components_are_there() -> None:
    assert {"simple", "lexical"} <= set(component_names("explainers"))
    assert {"detection", "fuzzing"} <= set(component_names("scorers"))
    assert {"llm", "lexical"} <= set(component_names("judges"))
    assert {"openai", "scripted"} <= set(component_names("clients"))


@pytest.mark.parametrize(("folder", "name"), COMPONENTS)
def test_every_component_is_a_frozen_dataclass_with_keyword_only_settings(folder: str, name: str) -> None:
    """What a component works with (a client, a script) may be given by position: `SimpleExplainer(client)`."""
    component = load_component(folder, name)
    assert component.__module__ == f"sae_auto_interp.{folder}.{name}"
    assert component.__dataclass_params__.frozen
    positional = [field for field in dataclasses.fields(component) if field.init and not field.kw_only]
    assert not [field.name for field in positional if field.type in (bool, int, float, str)]


def test_names_are_listed_without_importing_and_files_with_an_underscore_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scorers").mkdir()
    for name in ("__init__.py", "_trials.py", "surprisal.py", "detection.py", "prompt.md"):
        (tmp_path / "scorers" / name).write_text("raise RuntimeError('imported')")
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "registry.py"))
    assert component_names("scorers") == ["detection", "surprisal"]


def test_loading_one_component_imports_no_other() -> None:
    code = (
        "import json, sys; from sae_auto_interp.registry import load_component\n"
        "load_component('explainers', 'lexical')\n"
        "print(json.dumps([m for m in sys.modules if m.startswith('sae_auto_interp.')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "sae_auto_interp.explainers.simple" not in json.loads(done.stdout)


@pytest.mark.parametrize(
    ("folder", "name", "message"),
    [
        ("explainers", "lexcal", "unknown explainer 'lexcal'; did you mean 'lexical'?"),
        ("judges", "Llm", "unknown judge 'Llm'; did you mean 'llm'?"),
        ("scorers", "_classification", "unknown scorer '_classification'"),
        ("scorers", "../explainers/simple", "unknown scorer "),
        ("scorer", "detection", "unknown component folder 'scorer'; did you mean 'scorers'?"),
    ],
)
def test_unknown_name_is_answered_with_the_nearest(folder: str, name: str, message: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        load_component(folder, name)
    assert message in str(caught.value)


def test_component_from_outside(outside: Path) -> None:
    (outside / "my_scorers.py").write_text(
        "from dataclasses import dataclass\n\n@dataclass(frozen=True, kw_only=True)\nclass Mine:\n    n: int = 3\n"
    )
    assert load_component("scorers", "my_scorers:Mine")(n=4).n == 4


@pytest.mark.parametrize(
    ("source", "address", "message"),
    [
        ("", "no_such_module_here:Mine", "there is no module 'no_such_module_here'; install the package"),
        ("", "outside_a.deeper:Mine", "there is no module 'outside_a.deeper'"),
        ("import no_such_dependency", "outside_b:Mine", "'no_such_dependency'; outside_b imports it; install it"),
        ("class Mine: pass", "outside_c:Mien", "unknown class of outside_c 'Mien'; did you mean 'Mine'?"),
        ("class Mine: pass", "outside_d:Mine", "is no component: make Mine a frozen, keyword-only dataclass"),
        ("Mine = 3", "outside_e:Mine", "is no component"),
        ("def broken(:", "outside_f:Mine", "importing outside_f failed"),
        ("from math import nothing", "outside_g:Mine", "importing outside_g failed"),
        ("", ":Mine", "write package.module:Class"),
        ("", "outside_h:", "write package.module:Class"),
        ("", "outside_i:not a class", "write package.module:Class"),
    ],
)
def test_mistakes_in_an_address_are_named(outside: Path, source: str, address: str, message: str) -> None:
    module = address.partition(":")[0].partition(".")[0]
    if module.startswith("outside"):
        (outside / f"{module}.py").write_text(source)
    with pytest.raises(InputError) as caught:
        load_component("scorers", address)
    assert message in str(caught.value)


def test_an_error_inside_foreign_code_is_not_hidden(outside: Path) -> None:
    (outside / "raising.py").write_text("raise ZeroDivisionError('theirs')")
    with pytest.raises(ZeroDivisionError, match="theirs"):
        load_component("scorers", "raising:Mine")
