"""Open every module of a cache directory, whoever wrote it: `root/{module path}/{first}_{last}.safetensors`.

The layout is read off the files, never off a name. Opening reads manifests and headers only.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Int64

from sae_auto_interp.cache.fingerprints import rows_hash
from sae_auto_interp.cache.layout import MANIFEST, SHARD_PATTERN, TOKENS
from sae_auto_interp.cache.older.files import older_shards
from sae_auto_interp.cache.older.loaded_shards import LoadedShards, RowCount
from sae_auto_interp.cache.older.reader import OlderCacheReader
from sae_auto_interp.cache.reader import CacheReader
from sae_auto_interp.cache.tokens import load_tokens
from sae_auto_interp.errors import CacheError, InputError
from sae_auto_interp.types import Array, TokenRows

Reader: TypeAlias = CacheReader | OlderCacheReader
_logger = logging.getLogger(__name__)


def open_caches(
    root: Path, *, verify: bool = False, tokens: TokenRows | None = None, ctx_len: int | None = None
) -> dict[str, Reader]:
    """A reader for each module, by module path in alphabetical order.

    `tokens` are the rows that were cached, or `ctx_len` only their length: the original library's layout keeps
    neither. Raises `CacheError` when there is no finished cache in `root` or a file of it is damaged, `InputError` when
    the length of rows is not known or the tokens are not those of the cache.
    """
    finished = {path.parent for path in root.glob(f"*/{MANIFEST}")}
    others = {path.parent for path in root.glob(f"*/{SHARD_PATTERN}") if path.parent.name[0] != "."} - finished
    older = {directory for directory in others if older_shards(directory)}
    if not finished and not older:
        raise CacheError(f"{root} holds no finished cache{_advice(root)}")
    for directory in sorted(others - older):
        _logger.warning("%s is no finished cache (no %s) and is left out", directory, MANIFEST)
    readers: dict[str, Reader] = {}
    for directory in sorted(finished):
        reader = CacheReader(directory, verify=verify)
        readers[reader.module_path] = reader
    for reader in _older_readers(root, older, tokens, ctx_len):
        if verify:
            reader.verify()
        readers[reader.module_path] = reader
    if tokens is not None:
        check_tokens(readers, tokens)
    for path, reader in readers.items():
        if ctx_len is not None and ctx_len != reader.manifest.ctx_len:
            raise InputError(f"{path} was cached over rows of {reader.manifest.ctx_len} tokens, not of {ctx_len}")
    return {path: readers[path] for path in sorted(readers)}


def activation_counts(reader: Reader) -> Int64[Array, " width"]:
    """How often each feature fires; in an older layout this reads every location, but sorts nothing."""
    return reader.n_activations if isinstance(reader, OlderCacheReader) else reader.statistics()["n_activations"]


def stored_tokens(root: Path, readers: Mapping[str, Reader]) -> TokenRows | None:
    """The token rows kept with a cache: beside it, in its run directory, or in its shards; None when there are none."""
    for directory in (root, root.parent) if root.name == "features" else (root,):
        if (directory / TOKENS).is_file():
            return load_tokens(directory / TOKENS)
    found = [reader.tokens() for reader in readers.values() if isinstance(reader, OlderCacheReader)]
    return next((rows for rows in found if rows is not None), None)


def check_tokens(readers: Mapping[str, Reader], tokens: TokenRows) -> None:
    """Tokens must begin with the rows that were cached, as far as the cache tells; else raises `InputError`."""
    hashes: dict[int, str] = {}
    for path, reader in readers.items():
        n_rows, length = reader.manifest.n_rows, reader.manifest.ctx_len
        if tokens.ctx_len != length or tokens.n_rows < n_rows:
            found = f"{tokens.n_rows} rows of {tokens.ctx_len}"
            raise InputError(f"{path} was cached over {n_rows} rows of {length} tokens, not {found}; pass those")
        if not _are_cached(reader, tokens, hashes):
            raise InputError(f"{path} was cached over other tokens than these; pass those it is of")


def _are_cached(reader: Reader, tokens: TokenRows, hashes: dict[int, str]) -> bool:
    """`hashes` keeps the hash of the first n rows, which the modules of one cache share."""
    if isinstance(reader, OlderCacheReader):
        stored = reader.tokens()
        return stored is None or np.array_equal(stored.tokens, tokens.tokens[: stored.n_rows])
    n_rows, wanted = reader.manifest.n_rows, reader.manifest.rows
    if wanted and n_rows not in hashes:
        hashes[n_rows] = rows_hash(tokens.tokens[:n_rows], tokens.documents[:n_rows])
    return not wanted or hashes[n_rows] == wanted


def _older_readers(
    root: Path, directories: set[Path], tokens: TokenRows | None, ctx_len: int | None
) -> list[OlderCacheReader]:
    """Where no tokens are stored, the modules of one root are taken to be cached over the same rows."""
    stored = load_tokens(root / TOKENS) if directories and (root / TOKENS).is_file() else None
    given = ctx_len if tokens is None else tokens.ctx_len
    loaded = LoadedShards()
    readers = [
        OlderCacheReader(directory, ctx_len=given, stored=stored, loaded=loaded) for directory in sorted(directories)
    ]
    uncounted = [reader for reader in readers if not reader.stores_tokens]
    for reader in uncounted:
        same = [shard for other in uncounted if other.ctx_len == reader.ctx_len for shard in other.shards]
        reader.row_count = RowCount(same, reader.ctx_len)
    return readers


def _advice(root: Path) -> str:
    if any(root.glob(SHARD_PATTERN)):
        return f", but a module's files; give the directory above, {root.parent}"
    return "; run the cache stage first (it resumes where it stopped)"
