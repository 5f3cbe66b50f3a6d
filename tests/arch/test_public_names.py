"""The package's public names resolve, and files are named after what is in them."""

import ast
import importlib
import re

import pytest

import sae_auto_interp
from tests.arch.source_files import ROOT, name_of, package_files, python_files, tree_of

EMPTY_WORDS = re.compile(r"(^|_)(utils?|helpers?|misc|managers?|common|data2)(_|$)")


def test_public_names_resolve() -> None:
    assert [name for name in sae_auto_interp.__all__ if getattr(sae_auto_interp, name, None) is None] == []


def test_dir_lists_the_public_names() -> None:
    assert dir(sae_auto_interp) == sorted(sae_auto_interp.__all__)


def test_every_public_name_of_every_folder_resolves() -> None:
    """The stubs name each once, for type checkers and for lazy_loader."""
    folders = [path.parent for path in (ROOT / "src" / "sae_auto_interp").rglob("__init__.pyi")]
    assert len(folders) > 10
    for folder in folders:
        package = importlib.import_module(".".join(folder.relative_to(ROOT / "src").parts))
        missing = [name for name in package.__all__ if getattr(package, name, None) is None]
        assert package.__all__
        assert not missing, f"{name_of(folder)}: {missing}"


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="FeatureCash"):
        _ = sae_auto_interp.FeatureCash  # pyright: ignore[reportAttributeAccessIssue]


def test_recall_is_the_original_name_of_detection() -> None:
    assert sae_auto_interp.RecallScorer is sae_auto_interp.DetectionScorer


def test_no_file_has_an_empty_name() -> None:
    assert not [name_of(path) for path in python_files() if EMPTY_WORDS.search(path.stem)]


def test_modules_say_what_they_are() -> None:
    """Folders too: a folder's docstring is that of its __init__.py."""
    assert [name_of(path) for path in package_files() if not ast.get_docstring(tree_of(path))] == []


def test_every_folder_with_code_is_a_package() -> None:
    folders = {path.parent for path in package_files()}
    assert not [name_of(folder) for folder in folders if not (folder / "__init__.py").exists()]
