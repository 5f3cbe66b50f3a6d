"""A Hugging Face dataset -> its rows as records: from the hub or local files, streamed; or saved by `save_to_disk`.

    hf:owner/name@revision     the hub, or a local directory of data files; `hf:json`, `hf:csv`, ... with `data_files`

A revision may be a branch; `pinned` asks the hub which commit that is, and what is loaded is that commit. Needs the
package `datasets` (extra `datasets`), 4.0 or newer: those run no code that comes with a dataset.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from sae_auto_interp.data.records import Record
from sae_auto_interp.errors import InputError, MissingExtraError, UnknownNameError

PREFIX = "hf:"
SAVED = ("dataset_dict.json", "state.json")
"""One of these is in a directory that `save_to_disk` wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubDataset:
    """Which rows of which dataset."""

    place: str
    """`hf:name`, `hf:name@revision`, or a directory written by `save_to_disk`."""
    subset: str | None = None
    """Configuration of the dataset, which `load_dataset` calls its name."""
    split: str | None = None
    """None: `train`, or all rows of a single saved split."""
    data_files: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.place.removeprefix(PREFIX).partition("@")[0]

    @property
    def revision(self) -> str | None:
        return self.place.removeprefix(PREFIX).partition("@")[2] or None

    @property
    def is_saved(self) -> bool:
        return is_saved_dataset(Path(self.place))

    @property
    def is_local(self) -> bool:
        """Whether all of it is on this machine: a directory, or the name of a file format, which has no owner."""
        return self.is_saved or Path(self.name).exists() or ("/" not in self.name and bool(self.data_files))


def is_saved_dataset(path: Path) -> bool:
    """Whether `save_to_disk` wrote this directory."""
    return any((path / name).is_file() for name in SAVED)


def pinned(dataset: HubDataset) -> HubDataset:
    """The same with the commit in place of the revision; unchanged for what is local.

    Raises `InputError` when the hub cannot be asked, or knows no such dataset or revision.
    """
    if dataset.is_local:
        if dataset.revision:
            raise InputError(f"data.source: {dataset.name} is local and has no revision {dataset.revision!r}")
        return dataset
    from huggingface_hub import HfApi

    with _reading(dataset.place):
        commit: str | None = HfApi().dataset_info(dataset.name, revision=dataset.revision).sha
    assert commit, f"the hub names no commit of {dataset.place}"
    return replace(dataset, place=f"{PREFIX}{dataset.name}@{commit}")


def dataset_records(dataset: HubDataset, column: str) -> Iterator[Record]:
    """Each row, named by its number from 0; `InputError` where it cannot be read or has no such column."""
    try:
        datasets: Any = import_module("datasets")
    except ImportError as error:
        raise MissingExtraError("datasets", "datasets", f"reading {dataset.place}") from error
    with _reading(dataset.place, datasets.exceptions.DatasetsError, import_module("pyarrow").ArrowException):
        with _no_bars(datasets):
            rows = _saved(datasets, dataset) if dataset.is_saved else _streamed(datasets, dataset)
        columns: tuple[str, ...] | None = tuple(rows.column_names or ()) or None
        if columns and column not in columns:
            raise InputError(f"{dataset.place}: there is no column {column!r}; there are: {', '.join(columns)}")
        name = Path(dataset.name).name
        for number, row in enumerate(rows.select_columns([column]) if columns else rows):
            yield Record(f"{name}:{number}", f"{dataset.place}, row {number}", row, columns)


def _streamed(datasets: Any, dataset: HubDataset) -> Any:
    return datasets.load_dataset(
        dataset.name, dataset.subset, data_files=list(dataset.data_files) or None, split=dataset.split or "train",
        revision=dataset.revision, streaming=True,
    )  # fmt: skip


def _saved(datasets: Any, dataset: HubDataset) -> Any:
    found = datasets.load_from_disk(dataset.place)
    if not isinstance(found, datasets.DatasetDict):
        if dataset.split not in (None, str(found.split)):
            raise InputError(f"{dataset.place} is one saved split, not several; leave out data.split {dataset.split!r}")
        return found
    split = dataset.split or "train"
    if split not in found:
        raise UnknownNameError(f"split of {dataset.place}", split, found)
    return found[split]


@contextmanager
def _reading(place: str, *more: type[Exception]) -> Generator[None]:
    """Whatever goes wrong while a dataset is found, downloaded or read, as one line with its place."""
    import httpx2

    try:
        yield
    except (OSError, ValueError, RuntimeError, httpx2.HTTPError, *more) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"{place} cannot be read as a dataset: {reason}") from error


@contextmanager
def _no_bars(datasets: Any) -> Generator[None]:
    """Without the package's own progress bars: the run's progress is ours to show."""
    was_disabled = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not was_disabled:
            datasets.enable_progress_bars()
