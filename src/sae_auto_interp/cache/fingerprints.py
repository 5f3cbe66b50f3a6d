"""Hashes of what was cached, such that the hash of two sets of rows together follows from the hashes of each.

Rows are digits, each row's SHA-256 is its value, and the hash is the number that they write in a fixed base, modulo a
prime (a polynomial hash). So the fingerprint of combined caches is that of one run over all their rows, and needs none
of their tokens.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int32

from sae_auto_interp.types import NO_DOCUMENT, Array

PRIME = 2**255 - 19
BASE = int.from_bytes(hashlib.sha256(b"sae-auto-interp rows").digest(), "little") % PRIME
NO_ROWS = f"{0:064x}"


def rows_hash(
    tokens: Int32[Array, "n_rows ctx_len"], documents: Int32[Array, "n_rows ctx_len"], before: str = NO_ROWS
) -> str:
    """Hash of rows that come behind those with the hash `before`.

    Counted are the tokens and which of them are text; what the documents are called or how they are numbered is not.
    """
    value = int(before, 16)
    for row, document in zip(tokens, documents, strict=True):
        digest = hashlib.sha256(np.ascontiguousarray(row, dtype="<i4").data)
        digest.update(np.packbits(document != NO_DOCUMENT).data)
        value = (value * BASE + int.from_bytes(digest.digest(), "little")) % PRIME
    return f"{value:064x}"


def joined_hash(hashes: Iterable[tuple[str, int]]) -> str:
    """Hash of the rows of several sets, in order; each is given by its hash and its number of rows."""
    value = 0
    for found, n_rows in hashes:
        value = (value * pow(BASE, n_rows, PRIME) + int(found, 16)) % PRIME
    return f"{value:064x}"


def cache_fingerprint(configuration: str, rows: str, n_rows: int, ctx_len: int) -> str:
    """Hash of everything that decides what a finished cache holds."""
    return hashlib.sha256(f"{configuration} {rows} {n_rows} {ctx_len}".encode()).hexdigest()
