"""Where text comes from, in the words of a run file -> documents, or rows where the tokens are given.

`TextSource` holds everything that decides which documents come in which order; with equal files, and a dataset
pinned to a commit, equal sources give equal documents.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from sae_auto_interp.data import huggingface
from sae_auto_interp.data.arrays import array_rows
from sae_auto_interp.data.files import documents_from
from sae_auto_interp.data.huggingface import HubDataset, dataset_records, is_saved_dataset
from sae_auto_interp.data.layout import RowLayout
from sae_auto_interp.data.records import ChatField, Extract, TextField
from sae_auto_interp.data.rows import laid_out
from sae_auto_interp.data.shuffle import shuffled
from sae_auto_interp.data.standard_library import standard_library_documents
from sae_auto_interp.errors import InputError
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Document, TokenRows

STANDARD_LIBRARY = "standard_library"
ARRAY_SUFFIX = ".npy"
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSource:
    """The settings of `data` in a run file that choose text; see docs/data.md."""

    source: str = STANDARD_LIBRARY
    """`standard_library`; a file or directory; `hf:name@revision`."""
    subset: str | None = None
    split: str | None = None
    data_files: tuple[str, ...] = ()
    text_field: str = "text"
    messages_field: str | None = None
    max_chars_per_document: int | None = None
    skip_documents: int = 0
    max_documents: int | None = None
    shuffle_buffer: int = 0
    """0 keeps the order of the source."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.is_dataset and (self.subset or self.split or self.data_files):
            raise InputError(
                f"data.source {self.source!r} is no Hugging Face dataset, and has no subset, split or data_files; "
                "write hf:name, or leave them out"
            )

    @property
    def is_dataset(self) -> bool:
        return self.source.startswith(huggingface.PREFIX) or is_saved_dataset(Path(self.source))

    @property
    def dataset(self) -> HubDataset:
        return HubDataset(place=self.source, subset=self.subset, split=self.split, data_files=self.data_files)

    @property
    def reorders(self) -> bool:
        """Whether these are not simply the first documents."""
        return bool(self.skip_documents or self.shuffle_buffer or self.max_documents is not None)


def pinned(source: TextSource) -> TextSource:
    """The same, with a dataset of the hub pinned to a commit; asks the hub."""
    return replace(source, source=huggingface.pinned(source.dataset).place) if source.is_dataset else source


def rows_from(source: TextSource, layout: RowLayout, tokenizer: Any) -> TokenRows:
    """Token rows; raises `InputError` for text that is missing, damaged, empty or not what it is said to be."""
    if source.source.endswith(ARRAY_SUFFIX) and not source.is_dataset:
        if source.messages_field or source.max_chars_per_document:
            raise InputError(f"{source.source} holds token ids, to which messages_field and max_chars do not apply")
        choose = partial(_chosen, source=source) if source.reorders else None
        return array_rows(Path(source.source), tokenizer, layout, choose)
    return laid_out(documents_of(source, tokenizer), tokenizer, layout)


def documents_of(source: TextSource, tokenizer: Any) -> Iterator[Document]:
    """The documents, in order; `tokenizer` is asked for its chat template only. Raises `InputError` for none at all."""
    extract: Extract = (
        TextField(source.text_field) if source.messages_field is None else ChatField(source.messages_field, tokenizer)
    )
    for document in _chosen(_all_documents(source, extract), source):
        yield Document(document.name, document.text[: source.max_chars_per_document])


def _all_documents(source: TextSource, extract: Extract) -> Iterator[Document]:
    if source.source == STANDARD_LIBRARY:
        if isinstance(extract, ChatField):
            raise InputError("data.source standard_library holds no messages; leave out data.messages_field")
        yield from standard_library_documents(source.max_chars_per_document)
    elif source.is_dataset:
        for record in dataset_records(source.dataset, extract.field):
            yield Document(record.name, extract(record))
    else:
        yield from documents_from(Path(source.source), extract=extract)


def _chosen(items: Iterable[T], source: TextSource) -> Iterator[T]:
    """Those after the skipped ones, at most `max_documents`, then shuffled: a seed changes the order alone."""
    end = None if source.max_documents is None else source.skip_documents + source.max_documents
    chosen: Iterator[T] = islice(items, source.skip_documents, end)
    if source.shuffle_buffer:
        chosen = shuffled(chosen, source.shuffle_buffer, derived_rng(source.seed, "data.shuffle"))
    is_empty = True
    for item in chosen:
        is_empty = False
        yield item
    if is_empty:
        skipped = f" after the first {source.skip_documents}" if source.skip_documents else ""
        raise InputError(f"data.source {source.source!r} holds no document{skipped}")
