"""The package's public names resolve, and files are named after what is in them."""

import ast
import re
from pathlib import Path

import pytest

import sae_auto_interp
from tests.arch.source_files import ROOT, name_of, package_files, python_files

EMPTY_WORDS = re.compile(r"(^|_)(utils?|helpers?|misc|managers?|common|data2)(_|$)")


@pytest.mark.parametrize("name", sae_auto_interp.__all__)
def test_public_name_resolves(name: str) -> None:
    assert getattr(sae_auto_interp, name) is not None


def test_dir_lists_the_public_names() -> None:
    assert dir(sae_auto_interp) == sorted(sae_auto_interp.__all__)


def test_type_checkers_see_the_same_names_in_the_same_places() -> None:
    tree = ast.parse((ROOT / "src/sae_auto_interp/__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.name: (node.module or "").rpartition(".")[2] for node in imports for alias in node.names}
    assert seen == sae_auto_interp._HOME_OF
    assert set(seen) | {"__version__"} == set(sae_auto_interp.__all__)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'FeatureCash'"):
        _ = sae_auto_interp.FeatureCash  # pyright: ignore[reportAttributeAccessIssue]


def test_recall_is_the_original_name_of_detection() -> None:
    assert sae_auto_interp.RecallScorer is sae_auto_interp.DetectionScorer


def test_no_file_has_an_empty_name() -> None:
    assert not [name_of(path) for path in python_files() if EMPTY_WORDS.search(path.stem)]


@pytest.mark.parametrize("path", package_files(), ids=name_of)
def test_module_says_what_it_is(path: Path) -> None:
    """Folders too: a folder's docstring is that of its __init__.py."""
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{name_of(path)} has no docstring"


def test_every_folder_with_code_is_a_package() -> None:
    folders = {path.parent for path in package_files()}
    assert not [name_of(folder) for folder in folders if not (folder / "__init__.py").exists()]
