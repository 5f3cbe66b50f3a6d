"""Token rows on disk: one safetensors file with `tokens` and `documents` [rows, ctx_len] and the documents' names.

Files of ids alone are read too: one array `tokens` in a safetensors file, or a `.npy` file.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]

from sae_auto_interp.cache.layout import DATA, TOKENS, write_arrays
from sae_auto_interp.errors import CacheError, InputError
from sae_auto_interp.types import NO_DOCUMENT, Array, TokenRows


def save_tokens(path: Path, rows: TokenRows) -> None:
    """Write token rows; the file's name appears only when every byte is on disk."""
    write_arrays(path, token_arrays(rows))


def load_tokens(path: Path) -> TokenRows:
    """Token rows from a file; without `documents` in it, each row is its own document.

    Raises `InputError` when there is no such file, `CacheError` when it is damaged, holds something else, or is not
    what the `data.json` of its run says that it is.
    """
    if not path.is_file():
        raise InputError(f"there is no file of tokens {path}")
    try:
        arrays = {"tokens": np.load(path, allow_pickle=False)} if path.suffix == ".npy" else load_file(path)
        rows = rows_of_arrays(arrays)
    except (SafetensorError, OSError, EOFError, KeyError, ValueError, MemoryError) as error:
        wanted = "give .npy or .safetensors with `tokens` [rows, ctx_len]"
        raise CacheError(f"{path} cannot be read as tokens ({error}); {wanted}") from error
    beside = path.with_name(DATA)
    if path.name == TOKENS and beside.is_file() and _noted_digest(beside) != rows_sha256(rows):
        raise CacheError(f"{path} is not what {beside} says that it is: one of them is damaged")
    return rows


def _noted_digest(data: Path) -> object:
    try:
        return json.loads(data.read_text(encoding="utf-8"))["rows_sha256"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise CacheError(f"{data} is damaged ({error})") from error


def token_arrays(rows: TokenRows) -> dict[str, Array]:
    """Token rows as arrays to store."""
    names = np.frombuffer("\0".join(rows.document_names).encode(), dtype=np.uint8)
    return {"tokens": rows.tokens, "documents": rows.documents, "document_names": names}


def rows_sha256(rows: TokenRows) -> str:
    """Digest of every byte that is stored of rows."""
    digest = hashlib.sha256()
    for name, array in token_arrays(rows).items():
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def rows_of_arrays(arrays: Mapping[str, Array]) -> TokenRows:
    """The inverse of `token_arrays`; raises KeyError or ValueError for arrays that are not token rows."""
    tokens = arrays["tokens"]
    if tokens.ndim != 2 or 0 in tokens.shape or tokens.dtype.kind not in "iu":
        raise ValueError(f"tokens are {tokens.dtype} {list(tokens.shape)}")
    if int(tokens.max()) > np.iinfo(np.int32).max or int(tokens.min()) < 0:
        raise ValueError(f"tokens go from {tokens.min()} to {tokens.max()}")
    if "documents" not in arrays:
        return TokenRows.from_ids(tokens)
    documents, names = arrays["documents"], arrays["document_names"].tobytes().decode().split("\0")
    if documents.dtype.kind not in "iu" or documents.shape != tokens.shape or int(documents.max()) >= len(names):
        raise ValueError(f"documents {list(documents.shape)} up to {documents.max()} of {len(names)}")
    if int(documents.min()) < NO_DOCUMENT:
        raise ValueError(f"documents from {documents.min()}")
    return TokenRows(tokens.astype(np.int32), documents.astype(np.int32), tuple(names))
