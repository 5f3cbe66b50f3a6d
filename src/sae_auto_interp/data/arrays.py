"""Token ids in a `.npy` file -> rows: the file's own rows, or a stream of tokens cut into rows.

The file is memory-mapped, only what is used is read, and one that holds Python objects is refused. What the model reads
are the ids as they are; a stream alone gets the BOS in front of each row, if one is wanted. Rows of a file stand for
one document each. Of a stream, a document ends at each EOS or BOS; if there is none in all of it, each row stands for
one.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, Integer

from sae_auto_interp.data.layout import Row, RowFiller, RowLayout, collected
from sae_auto_interp.errors import InputError
from sae_auto_interp.types import NO_DOCUMENT, Array, TokenRows

Choose = Callable[[Iterable[int]], Iterator[int]]
"""All rows' numbers -> those wanted, in the order wanted."""
SCANNED_IDS = 1 << 20
"""Ids that are looked at in one go for the end of a document."""


def array_rows(path: Path, tokenizer: Any, layout: RowLayout, choose: Choose | None = None) -> TokenRows:
    """The first rows, among those that `choose` names, that hold `layout.n_tokens` text tokens; or all.

    Raises `InputError` for a file that is missing, damaged or no array of ids, ids beyond the vocabulary, rows of
    another length than `layout.ctx_len`, rows without the BOS that is wanted, and a `choose` for a stream.
    """
    array = _opened(path)
    names: list[str] = []
    filler = RowFiller(layout, tokenizer)
    if array.ndim == 2:
        rows = _own_rows(array, path, filler, choose or iter, names)
    elif choose is not None:
        raise InputError(f"{path} is one stream of tokens, of which no documents can be skipped, counted or shuffled")
    else:
        rows = _cut_rows(array, path, filler, names)
    found = collected(rows, names, layout.n_tokens)
    if found is None:
        raise InputError(f"{path}: none of the rows asked for, of {list(array.shape)} ids, holds a text token")
    if array.ndim == 2 or int(found.documents.max()) > 0 or _has_borders(array, tokenizer):
        return found
    return _each_row_a_document(found, path)


def _opened(path: Path) -> Integer[Array, "..."]:
    if not path.is_file():
        raise InputError(f"tokens: there is no file {path}")
    try:
        found: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path} cannot be read as an array of token ids ({error}); give a .npy file") from error
    if not hasattr(found, "dtype"):
        raise InputError(f"{path} holds several arrays; give one array of token ids, in a .npy file")
    array: Array = found
    if array.dtype.kind not in "iu" or array.ndim not in (1, 2):
        raise InputError(
            f"{path} holds {array.dtype} {list(array.shape)}; give token ids as [rows, ctx_len] or as one stream [n]"
        )
    if array.size == 0:
        raise InputError(f"{path} is empty: {list(array.shape)}")
    return array


def _own_rows(
    array: Integer[Array, "rows length"], path: Path, filler: RowFiller, choose: Choose, names: list[str]
) -> Iterator[Row]:
    layout = filler.layout
    if array.shape[1] != layout.ctx_len:
        raise InputError(f"{path} has rows of {array.shape[1]} tokens; set data.ctx_len to that, not {layout.ctx_len}")
    for number in choose(range(len(array))):
        ids = _checked(array[number], filler, f"{path}, row {number}")
        if layout.prepend_bos and ids[0] != filler.tokenizer.bos_token_id:
            raise InputError(
                f"{path}, row {number}: begins with the id {ids[0]}, not with the BOS "
                f"{filler.tokenizer.bos_token_id} that the autoencoders were trained with; "
                "make the rows with it, or set data.prepend_bos: false to take them as they are"
            )
        names.append(f"{path.name} row {number}")
        start = int(layout.prepend_bos)
        yield filler.row(ids[start:], len(names) - 1)


def _cut_rows(stream: Integer[Array, " n"], path: Path, filler: RowFiller, names: list[str]) -> Iterator[Row]:
    room = filler.layout.room
    tokenizer = filler.tokenizer
    borders = _borders(tokenizer)
    document, has_text = 0, False
    names.append(f"{path.name} document 0")
    for begin in range(0, len(stream), room):
        ids = _checked(stream[begin : begin + room], filler, f"{path}, from token {begin}")
        if begin and len(ids) < filler.layout.least:
            return
        owners = np.empty(len(ids), np.int32)
        for place, is_border in enumerate(np.isin(ids, borders).tolist()):
            if is_border and has_text:
                document, has_text = document + 1, False
                names.append(f"{path.name} document {document}")
            has_text |= not is_border
            owners[place] = NO_DOCUMENT if is_border else document
        yield filler.row(ids, owners)


def _borders(tokenizer: Any) -> list[int]:
    """The ids at which a document of a stream ends."""
    return [index for index in (tokenizer.bos_token_id, tokenizer.eos_token_id) if index is not None]


def _has_borders(stream: Integer[Array, " n"], tokenizer: Any) -> bool:
    """Whether there is one anywhere, also beyond what is used: the rows may all be of one long document."""
    borders = _borders(tokenizer)
    return any(bool(np.isin(stream[i : i + SCANNED_IDS], borders).any()) for i in range(0, len(stream), SCANNED_IDS))


def _checked(ids: Array, filler: RowFiller, where: str) -> Int32[Array, " n"]:
    n_ids = len(filler.tokenizer)
    smallest, largest = int(ids.min()), int(ids.max())
    if smallest < 0 or largest >= n_ids:
        wrong = smallest if smallest < 0 else largest
        raise InputError(
            f"{where}: holds the id {wrong}, and the tokenizer knows 0 to {n_ids - 1}; give the ids of this model"
        )
    return ids.astype(np.int32)


def _each_row_a_document(rows: TokenRows, path: Path) -> TokenRows:
    """Count each row as a document, for a stream that does not say where documents end."""
    numbers = np.arange(rows.n_rows, dtype=np.int32)[:, None]
    documents = np.where(rows.documents == NO_DOCUMENT, np.int32(NO_DOCUMENT), numbers)
    return TokenRows(rows.tokens, documents, tuple(f"{path.name} row {i}" for i in range(rows.n_rows)))
