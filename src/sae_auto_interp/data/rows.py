"""Documents -> rows of token ids that never mix documents.

Each document is cut into rows of `ctx_len` tokens; its last row is filled with the padding token on the right
(right padding leaves the positions of a GPT-2 as they are). With `prepend_bos` every row begins with the
BOS token. Padding and BOS belong to no document, so they can never count as a feature's firing, but the model
does read them: deleting BOS changes every activation of models that were trained with it.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sae_auto_interp.errors import InputError
from sae_auto_interp.types import NO_DOCUMENT, Array, Document, TokenRows


def build_token_rows(
    documents: Iterable[Document], tokenizer: Any, *, ctx_len: int, n_tokens: int, prepend_bos: bool = False
) -> TokenRows:
    """Rows holding at least `n_tokens` text tokens, or all there are. `tokenizer` is a Hugging Face tokenizer.

    Documents shorter than `ctx_len` // 4 tokens are left out: they would be mostly padding. Raises `InputError` when
    nothing is left or asked for, or when BOS is wanted and the tokenizer has none.
    """
    start = _bos(tokenizer) if prepend_bos else []
    room = ctx_len - len(start)
    if n_tokens < 1 or room < 1:
        raise InputError(f"n_tokens={n_tokens} and ctx_len={ctx_len} leave no room for text; give more of both")
    shortest = max(1, ctx_len // 4)
    rows: list[Array] = []
    owners: list[Array] = []
    names: list[str] = []
    collected = 0
    for document in documents:
        if collected >= n_tokens:
            break
        ids = tokenizer.encode(document.text, add_special_tokens=False, verbose=False)
        if len(ids) < shortest:
            continue
        for piece in _pieces(ids, room)[: -(-(n_tokens - collected) // room)]:
            row, owner = _row(start, piece, ctx_len, _padding(tokenizer), len(names))
            rows.append(row)
            owners.append(owner)
            collected += len(piece)
        names.append(document.name)
    if not rows:
        raise InputError(
            f"the text gave no document of at least {shortest} tokens; give longer documents or a smaller ctx_len"
        )
    return TokenRows(np.stack(rows), np.stack(owners), tuple(names))


def _pieces(ids: Sequence[int], room: int) -> list[Sequence[int]]:
    """Rows' worth of one document; a tail too short to give context is dropped."""
    pieces = [ids[i : i + room] for i in range(0, len(ids), room)]
    if len(pieces) > 1 and len(pieces[-1]) < room // 4:
        pieces.pop()
    return pieces


def _row(start: Sequence[int], piece: Sequence[int], ctx_len: int, padding: int, document: int) -> tuple[Array, Array]:
    row = np.full(ctx_len, padding, dtype=np.int32)
    owner = np.full(ctx_len, NO_DOCUMENT, dtype=np.int32)
    end = len(start) + len(piece)
    row[: len(start)] = start
    row[len(start) : end] = piece
    owner[len(start) : end] = document
    return row, owner


def _bos(tokenizer: Any) -> list[int]:
    if tokenizer.bos_token_id is None:
        raise InputError("the autoencoder was trained with a BOS token in front, but the tokenizer has none")
    return [tokenizer.bos_token_id]


def _padding(tokenizer: Any) -> int:
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return token
    return 0
