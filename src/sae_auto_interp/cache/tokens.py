"""Token rows on disk: one safetensors file with `tokens` and `documents` [rows, ctx_len] and the documents' names.

Files of ids alone are read too: one array `tokens` in a safetensors file, or a `.npy` file.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]

from sae_auto_interp.cache.layout import write_arrays
from sae_auto_interp.errors import CacheError, InputError
from sae_auto_interp.types import Array, TokenRows


def save_tokens(path: Path, rows: TokenRows) -> None:
    """Write token rows; the file's name appears only when every byte is on disk."""
    write_arrays(path, token_arrays(rows))


def load_tokens(path: Path) -> TokenRows:
    """Token rows from a file; without `documents` in it, each row is its own document.

    Raises `InputError` when there is no such file, `CacheError` when it is damaged or holds something else.
    """
    if not path.is_file():
        raise InputError(f"there is no file of tokens {path}")
    try:
        arrays = {"tokens": np.load(path, allow_pickle=False)} if path.suffix == ".npy" else load_file(path)
        return rows_of_arrays(arrays)
    except (SafetensorError, OSError, EOFError, KeyError, ValueError) as error:
        wanted = "give .npy or .safetensors with `tokens` [rows, ctx_len]"
        raise CacheError(f"{path} cannot be read as tokens ({error}); {wanted}") from error


def token_arrays(rows: TokenRows) -> dict[str, Array]:
    """Token rows as arrays to store."""
    names = np.frombuffer("\0".join(rows.document_names).encode(), dtype=np.uint8)
    return {"tokens": rows.tokens, "documents": rows.documents, "document_names": names}


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
    if documents.shape != tokens.shape or int(documents.max()) >= len(names):
        raise ValueError(f"documents {list(documents.shape)} up to {documents.max()} of {len(names)}")
    return TokenRows(tokens.astype(np.int32), documents.astype(np.int32), tuple(names))
