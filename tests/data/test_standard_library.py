"""The text that comes with Python: the same on every call, mixed, without tests, with a stable held-out part."""

import os
import subprocess
import sys
from itertools import islice

import pytest

from sae_auto_interp.data.standard_library import is_held_out, standard_library_documents
from sae_auto_interp.types import Document


def names(documents: list[Document]) -> list[str]:
    return [document.name for document in documents]


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return list(standard_library_documents())


def test_every_call_gives_the_same_documents(documents: list[Document]) -> None:
    assert list(standard_library_documents()) == documents
    assert len(set(names(documents))) == len(documents) > 400


def test_another_process_gives_the_same_order(documents: list[Document]) -> None:
    """Also one whose strings hash otherwise."""
    code = (
        "from itertools import islice\n"
        "from sae_auto_interp.data.standard_library import standard_library_documents\n"
        "print([d.name for d in islice(standard_library_documents(10), 50)])"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == str(names(documents)[:50])


def test_topics_and_sources_are_mixed(documents: list[Document]) -> None:
    kinds = [name.partition(":")[0] for name in names(documents)]
    assert set(kinds) == {"topic", "source"}
    assert set(kinds[:20]) == set(kinds[-20:]) == {"topic", "source"}
    texts = {document.name: document.text for document in documents}
    assert texts["topic:with"].startswith('The "with" statement')
    assert "class JSONDecoder" in texts["source:json/decoder.py"]


def test_what_is_no_prose_is_left_out(documents: list[Document]) -> None:
    parts = {part for name in names(documents) for part in name.partition(":")[2].split("/")}
    assert not parts & {"site-packages", "test", "tests", "idle_test", "encodings", "pydoc_data", "lib2to3"}
    assert all(document.text for document in documents)


def test_documents_are_cut_to_a_length(documents: list[Document]) -> None:
    cut = list(islice(standard_library_documents(100), 30))
    assert [(d.name, d.text) for d in cut] == [(d.name, d.text[:100]) for d in documents[:30]]


def test_the_held_out_part_is_decided_by_the_name_alone(documents: list[Document]) -> None:
    held_out = {document.name for document in documents if is_held_out(document)}
    assert held_out == {d.name for d in standard_library_documents(10) if is_held_out(d)}
    assert 0.02 < len(held_out) / len(documents) < 0.09
    # Written down once: the embedded language model was trained on the others.
    assert is_held_out(Document("source:abc.py", "")) is False
    assert [n for n in (f"topic:{i}" for i in range(60)) if is_held_out(Document(n, "x"))] == ["topic:31", "topic:39"]


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_the_size_of_the_held_out_part_is_a_setting(fraction: float, documents: list[Document]) -> None:
    share = sum(is_held_out(document, fraction) for document in documents) / len(documents)
    assert abs(share - fraction) < 0.08
    smaller = {d.name for d in documents if is_held_out(d, fraction / 2)}
    assert smaller <= {d.name for d in documents if is_held_out(d, fraction)}
