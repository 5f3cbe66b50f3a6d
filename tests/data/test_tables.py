"""Parquet files and Hugging Face datasets: the same rows give the same documents, and what is wrong is named."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.data import huggingface
from sae_auto_interp.data.files import documents_from
from sae_auto_interp.data.huggingface import HubDataset, pinned
from sae_auto_interp.data.sources import TextSource, documents_of
from sae_auto_interp.errors import InputError, MissingExtraError, UnknownNameError

TEXTS = ["Zeile 1\nZeile 2", "", "東京 🎉", *(f"text {i}" for i in range(600))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The same table as Parquet, JSON lines and saved datasets."""
    import datasets

    rows = [{"id": i, "text": text} for i, text in enumerate(TEXTS)]
    table = datasets.Dataset.from_list(rows)
    datasets.disable_progress_bars()
    (tmp_path / "tables").mkdir()
    table.to_parquet(tmp_path / "tables" / "a.parquet")
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    table.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"train": table, "held_out": table.select([2])}).save_to_disk(tmp_path / "splits")
    datasets.enable_progress_bars()
    return tmp_path


def read(**settings: Any) -> list[str]:
    return [document.text for document in documents_of(TextSource(**settings), tokenizer=None)]


def test_rows_of_a_parquet_file_are_documents_named_by_their_number(folder: Path) -> None:
    documents = list(documents_from(folder / "tables"))
    assert [document.text for document in documents] == TEXTS
    assert [document.name for document in documents[:2]] == ["a.parquet:1", "a.parquet:2"]


def test_every_way_to_the_same_table_gives_the_same_texts(folder: Path) -> None:
    ways: list[dict[str, Any]] = [
        {"source": str(folder / "tables" / "a.parquet")},
        {"source": str(folder / "a.jsonl")},
        {"source": str(folder / "saved")},
        {"source": str(folder / "splits"), "split": "train"},
        {"source": f"hf:{folder / 'tables'}"},
        {"source": "hf:json", "data_files": (str(folder / "a.jsonl"),)},
        {"source": "hf:parquet", "data_files": (str(folder / "tables" / "*.parquet"),), "split": "train"},
    ]
    for way in ways:
        assert read(**way) == TEXTS, way
    assert read(source=str(folder / "splits"), split="held_out") == [TEXTS[2]]


def test_a_text_file_read_by_datasets_is_a_document_per_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    assert read(source="hf:text", data_files=(str(tmp_path / "a.txt"),)) == ["one", "two"]


def test_datasets_are_streamed_and_no_further_than_needed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    import datasets

    load = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **options: asked.append(options) or load(*a, **options))
    documents = documents_of(TextSource(source=f"hf:{folder / 'tables'}", max_documents=2), tokenizer=None)
    assert [document.name for document in documents] == ["tables:0", "tables:1"]
    assert asked[0]["streaming"] is True


@pytest.mark.parametrize("source", ["tables/a.parquet", "hf:{}/tables", "saved"])
def test_a_missing_column_is_named_with_those_that_are_there(source: str, folder: Path) -> None:
    place = source.format(folder) if source.startswith("hf:") else str(folder / source)
    with pytest.raises(InputError, match=r"there is no column 'content'; there are: id.*, text"):
        read(source=place, text_field="content")
    with pytest.raises(InputError, match=r"field 'id' holds int, not a text: 0; there are: id.*, text"):
        read(source=place, text_field="id")


def test_damaged_and_missing_tables_are_named(folder: Path) -> None:
    whole = (folder / "tables" / "a.parquet").read_bytes()
    for content in (whole[:-30], b"", whole[:200] + bytes(len(whole) - 400) + whole[-200:]):
        (folder / "tables" / "a.parquet").write_bytes(content)
        with pytest.raises(InputError, match=r"a\.parquet (cannot be read as Parquet|is empty)"):
            read(source=str(folder / "tables" / "a.parquet"))
        with pytest.raises(InputError, match=r"hf:.*tables.* cannot be read as a dataset"):
            read(source=f"hf:{folder / 'tables'}")
    with pytest.raises(InputError, match="cannot be read as a dataset"):
        read(source="hf:json", data_files=(str(folder / "none.jsonl"),))
    (folder / "saved" / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(InputError, match="saved cannot be read as a dataset"):
        read(source=str(folder / "saved"))


def test_splits_that_are_not_there_are_named(folder: Path) -> None:
    with pytest.raises(UnknownNameError, match="'heldout'; did you mean 'held_out'"):
        read(source=str(folder / "splits"), split="heldout")
    with pytest.raises(InputError, match="is one saved split"):
        read(source=str(folder / "saved"), split="test")
    with pytest.raises(InputError, match=r"cannot be read as a dataset: .*test"):
        read(source=f"hf:{folder / 'tables'}", split="test")


def test_the_hub_is_asked_for_the_commit_and_the_commit_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network: what the hub would be asked and what it would be told."""
    import datasets
    import huggingface_hub

    asked: list[Any] = []

    class Info:
        sha = "c0ffee" + 34 * "0"

    def dataset_info(self: Any, name: str, *, revision: str | None) -> Info:
        asked.append((name, revision))
        return Info()

    def load_dataset(name: str, subset: str | None, **options: Any) -> datasets.IterableDataset:
        asked.append((name, subset, options["split"], options["revision"]))
        return datasets.Dataset.from_dict({"text": ["a"]}).to_iterable_dataset()

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    dataset = pinned(HubDataset(place="hf:owner/name@main", subset="en"))
    assert dataset.place == f"hf:owner/name@{Info.sha}"
    assert [record.value["text"] for record in huggingface.dataset_records(dataset, "text")] == ["a"]
    assert asked == [("owner/name", "main"), ("owner/name", "en", "train", Info.sha)]


def test_without_the_hub_the_place_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between its retries
    with pytest.raises(InputError, match=r"hf:owner/name cannot be read as a dataset: .*offline"):
        pinned(HubDataset(place="hf:owner/name"))
    with pytest.raises(InputError, match=r"hf:owner/name cannot be read as a dataset: .*Hub"):
        read(source="hf:owner/name")


def test_what_is_local_has_no_revision(folder: Path) -> None:
    assert pinned(HubDataset(place=str(folder / "saved"))) == HubDataset(place=str(folder / "saved"))
    with pytest.raises(InputError, match="is local and has no revision 'main'"):
        pinned(HubDataset(place=f"hf:{folder / 'tables'}@main"))


@pytest.mark.parametrize(("package", "source"), [("pyarrow", "tables/a.parquet"), ("datasets", "saved")])
def test_a_missing_package_names_its_extra(
    package: str, source: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"needs {package}; install it with: .*\[datasets\]"):
        read(source=str(folder / source))


@pytest.fixture
def bars() -> Iterator[Callable[[], bool]]:
    import datasets

    yield lambda: not datasets.are_progress_bars_disabled()
    datasets.enable_progress_bars()


def test_the_package_s_progress_bars_are_as_they_were(folder: Path, bars: Callable[[], bool]) -> None:
    assert bars()
    read(source=str(folder / "saved"))
    assert bars()
