"""Documents -> rows of token ids: one document per row, or packed.

Unpacked, each document is cut into rows of `ctx_len` tokens, and its last row is filled with padding; nothing that the
model reads at a position is of another document. Packed, rows are filled with successive documents, as in training:
nothing is padding, but the model's attention sees the documents before in the same row. Either way each position
knows its document, and windows and splits go by that.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from sae_auto_interp.data.layout import Row, RowFiller, RowLayout, collected, marker_id
from sae_auto_interp.errors import InputError
from sae_auto_interp.types import NO_DOCUMENT, Array, Document, TokenRows


def build_token_rows(
    documents: Iterable[Document],
    tokenizer: Any,
    *,
    ctx_len: int,
    n_tokens: int,
    prepend_bos: bool = False,
    packing: bool = False,
    separator: str = "auto",
    mask_special_tokens: bool = True,
) -> TokenRows:
    """Rows holding at least `n_tokens` text tokens, or all there are. `tokenizer` is a Hugging Face tokenizer.

    The settings are those of `RowLayout`. Raises what `laid_out` does.
    """
    layout = RowLayout(
        ctx_len=ctx_len, n_tokens=n_tokens, prepend_bos=prepend_bos, packing=packing, separator=separator,
        mask_special_tokens=mask_special_tokens,
    )  # fmt: skip
    return laid_out(documents, tokenizer, layout)


def laid_out(documents: Iterable[Document], tokenizer: Any, layout: RowLayout) -> TokenRows:
    """The rows of some documents.

    Not packed, documents shorter than `ctx_len` // 4 tokens are left out: they would be mostly padding. Raises
    `InputError` when nothing is left, or when a BOS or EOS is wanted and the tokenizer has none.
    """
    filler = RowFiller(layout, tokenizer)
    names: list[str] = []
    rows = (_packed if layout.packing else _one_document_each)(documents, filler, names)
    found = collected(rows, names, layout.n_tokens)
    if found is not None:
        return found
    if layout.packing:
        raise InputError(f"the text gave no row of at least {layout.least} tokens; give more text or a smaller ctx_len")
    raise InputError(
        f"the text gave no document of at least {_shortest(layout)} tokens; "
        "give longer documents, a smaller ctx_len, or data.packing: true"
    )


def _one_document_each(documents: Iterable[Document], filler: RowFiller, names: list[str]) -> Iterator[Row]:
    room, least = filler.layout.room, filler.layout.room // 4
    for document in documents:
        ids = filler.ids_of(document.text)
        if len(ids) < _shortest(filler.layout):
            continue
        names.append(document.name)
        for begin in range(0, len(ids), room):
            piece = ids[begin : begin + room]
            if begin == 0 or len(piece) >= least:  # a tail too short to give context is dropped
                yield filler.row(piece, len(names) - 1)


def _packed(documents: Iterable[Document], filler: RowFiller, names: list[str]) -> Iterator[Row]:
    """Rows full of successive documents; the last one, if it is not too short, is filled with padding."""
    before, after = _separators(filler)
    room = filler.layout.room
    ids = np.empty(0, np.int32)
    owners = np.empty(0, np.int32)
    for document in documents:
        text = filler.ids_of(document.text)
        if len(text) == 0:
            continue
        names.append(document.name)
        front = before if len(ids) or not filler.layout.prepend_bos else before[:0]  # the row's own BOS will do
        ids = np.concatenate([ids, front, text, after])
        owners = np.concatenate([owners, _nobody(front), np.full(len(text), len(names) - 1, np.int32), _nobody(after)])
        n_full = len(ids) // room * room
        for begin in range(0, n_full, room):
            yield filler.row(ids[begin : begin + room], owners[begin : begin + room])
        ids, owners = ids[n_full:], owners[n_full:]
    if len(ids) >= filler.layout.least:
        yield filler.row(ids, owners)


def _separators(filler: RowFiller) -> tuple[Array, Array]:
    """What stands before and after each packed document."""
    wanted, nothing = filler.layout.separator, np.empty(0, np.int32)
    if wanted == "none":
        return nothing, nothing
    kind = "bos" if wanted == "bos" or (wanted == "auto" and filler.layout.prepend_bos) else "eos"
    why = f"packed documents are to be separated by {kind.upper()} (data.separator)"
    marker = np.array([marker_id(filler.tokenizer, kind, why)], np.int32)
    return (marker, nothing) if kind == "bos" else (nothing, marker)


def _nobody(ids: Array) -> Array:
    return np.full(len(ids), NO_DOCUMENT, np.int32)


def _shortest(layout: RowLayout) -> int:
    return max(1, layout.ctx_len // 4)
