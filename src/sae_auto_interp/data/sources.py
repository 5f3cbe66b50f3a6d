"""Where text comes from, in the words of a run file -> documents, or rows where the tokens are given.

`TextSource` holds everything that decides which documents come in which order; with equal files, and a dataset
pinned to a commit, equal sources give equal documents.

Items in a random order that depends on a generator alone, holding only some of them in memory.

A long document -> parts that count as documents: cut at blank lines, so that no paragraph is in two of them.

A feature is explained on some documents and tested on others. Of one long document (a book in one file) there would be
nothing to test on; of its parts there is. Neighbouring parts are more alike than two documents are, which is the price.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sae_auto_interp.data import huggingface
from sae_auto_interp.data.arrays import array_rows
from sae_auto_interp.data.files import documents_from
from sae_auto_interp.data.huggingface import HubDataset, dataset_records, is_saved_dataset
from sae_auto_interp.data.layout import RowLayout
from sae_auto_interp.data.records import ChatField, Extract, PassedOver, TextField
from sae_auto_interp.data.rows import laid_out
from sae_auto_interp.data.standard_library import standard_library_documents
from sae_auto_interp.errors import InputError
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Document, TokenRows

_PARAGRAPH = re.compile(r"\n[ \t\r]*\n[\s]*")
"""What stands between two paragraphs."""


def parts_of(document: Document, n_characters: int) -> Iterator[Document]:
    """The document in parts of at least `n_characters`, but for the last; whole where it is not longer than that.

    A paragraph that is longer is cut at its line ends; a line is never cut. Together the parts are the document.
    """
    if len(document.text) <= n_characters:
        yield document
        return
    part: list[str] = []
    length, number = 0, 1
    for piece in _pieces(document.text, n_characters):
        part.append(piece)
        length += len(piece)
        if length >= n_characters:
            yield Document(f"{document.name}, part {number}", "".join(part))
            part, length, number = [], 0, number + 1
    if part:
        yield Document(f"{document.name}, part {number}", "".join(part))


def _pieces(text: str, n_characters: int) -> Iterator[str]:
    """Paragraphs with the blank lines behind them, or their lines where a paragraph is longer than a part is to be."""
    begin = 0
    for end in [*(match.end() for match in _PARAGRAPH.finditer(text)), len(text)]:
        paragraph = text[begin:end]
        begin = end
        if len(paragraph) <= n_characters:
            yield paragraph
        else:
            yield from paragraph.splitlines(keepends=True)


T = TypeVar("T")


def shuffled(items: Iterable[T], buffer: int, rng: np.random.Generator) -> Iterator[T]:
    """Each item once: any of the `buffer` that wait may come next, and the next item takes its place.

    So an item comes at most `buffer` - 1 places early; a buffer for all of them is a full shuffle.
    """
    waiting: list[T] = []
    for item in items:
        if len(waiting) < buffer:
            waiting.append(item)
            continue
        at = int(rng.integers(buffer))
        yield waiting[at]
        waiting[at] = item
    for at in rng.permutation(len(waiting)).tolist():
        yield waiting[at]


STANDARD_LIBRARY = "standard_library"


ARRAY_SUFFIX = ".npy"


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
    split_documents: int | None = None
    """Characters of the parts into which longer documents are cut; None: they stay whole."""
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


def rows_from(
    source: TextSource, layout: RowLayout, tokenizer: Any, passed_over: PassedOver | None = None
) -> TokenRows:
    """Token rows; raises `InputError` for text that is missing, damaged, empty or not what it is said to be.

    `passed_over` counts what is no text and no mistake either.
    """
    if source.source.lower().endswith(ARRAY_SUFFIX) and not source.is_dataset:
        if source.messages_field or source.max_chars_per_document or source.split_documents:
            raise InputError(
                f"{source.source} holds token ids, to which messages_field, max_chars_per_document and split_documents "
                "do not apply"
            )
        choose = partial(_chosen, source=source) if source.reorders else None
        return array_rows(Path(source.source), tokenizer, layout, choose)
    return laid_out(documents_of(source, tokenizer, passed_over), tokenizer, layout)


def documents_of(source: TextSource, tokenizer: Any, passed_over: PassedOver | None = None) -> Iterator[Document]:
    """The documents, in order; `tokenizer` is asked for its chat template only. Raises `InputError` for none at all."""
    passed_over = passed_over or PassedOver()
    extract: Extract = (
        TextField(source.text_field, passed_over)
        if source.messages_field is None
        else ChatField(source.messages_field, tokenizer, passed_over)
    )
    yield from _chosen(_cut_documents(source, extract), source, passed_over)


def _cut_documents(source: TextSource, extract: Extract) -> Iterator[Document]:
    """The source's documents, or their parts where they are to be split, each no longer than is wanted."""
    for whole in _all_documents(source, extract):
        parts = [whole] if source.split_documents is None else parts_of(whole, source.split_documents)
        for part in parts:
            yield Document(part.name, part.text[: source.max_chars_per_document])


def _all_documents(source: TextSource, extract: Extract) -> Iterator[Document]:
    if source.source == STANDARD_LIBRARY:
        if isinstance(extract, ChatField):
            raise InputError("data.source standard_library holds no messages; leave out data.messages_field")
        yield from standard_library_documents(None if source.split_documents else source.max_chars_per_document)
    elif source.is_dataset:
        for record in dataset_records(source.dataset, extract.field):
            text = extract(record)
            if text is not None:
                yield Document(record.name, text)
    else:
        yield from documents_from(Path(source.source), extract=extract)


def _chosen(items: Iterable[T], source: TextSource, passed_over: PassedOver | None = None) -> Iterator[T]:
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
        others = f"; {passed_over.line}" if passed_over is not None and passed_over.line else ""
        raise InputError(f"data.source {source.source!r} holds no document{skipped}{others}")
