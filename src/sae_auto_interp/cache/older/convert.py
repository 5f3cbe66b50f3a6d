"""Turn a cache into another layout: our own, the original library's, or delphi's. No entry is lost or changed.

Memory is that of one shard of an older source, or of a block of entries of a native one; and of the token rows. The
result is made in a directory beside the destination, which gets its name only when everything is in it.

The entries of a cache in an older layout as a merge reads them, and entries in another type of number.
"""

import logging
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Int64

from sae_auto_interp.cache.files import put_in_place, temporary_name, writing
from sae_auto_interp.cache.fingerprints import rows_hash
from sae_auto_interp.cache.layout import FORMAT_VERSION, TOKENS, VOCABULARY, location_dtype, shard_ranges
from sae_auto_interp.cache.merge import merge_into_cache
from sae_auto_interp.cache.older.reader import OlderCacheReader
from sae_auto_interp.cache.older.writer import write_older
from sae_auto_interp.cache.opening import Reader, check_tokens, open_caches, stored_tokens
from sae_auto_interp.cache.reader import CacheReader
from sae_auto_interp.cache.source import EntrySource
from sae_auto_interp.cache.tokens import save_tokens
from sae_auto_interp.cache.value_types import activation_code, as_float32, stored
from sae_auto_interp.errors import InputError, UnknownNameError
from sae_auto_interp.types import Array, CacheManifest, TokenRows


class OlderSource(EntrySource):
    """Shard after shard, each sorted in memory when its turn comes. bfloat16 comes as float32."""

    def __init__(self, reader: OlderCacheReader) -> None:
        self._reader = reader
        self._shard = 0
        self._next = 0

    def beginning_at(self, feature: int) -> "OlderSource":
        """The same entries from those of `feature` on."""
        found = OlderSource(self._reader)
        while self._reader.shards[found._shard].last < feature:
            found._shard += 1
        found._next = int(self._reader.n_activations[self._reader.shards[found._shard].first : feature].sum())
        return found

    def counts(self, first: int, end: int) -> Int64[Array, " features"]:
        """Number of entries of features `first` to `end` (exclusive)."""
        return self._reader.n_activations[first:end]

    def take(self, n: int, location_type: np.dtype[np.unsignedinteger]) -> tuple[Array, Array]:
        """Locations and activations of the next `n` entries."""
        locations, activations = [np.empty(0, location_type)], []
        while n > 0:
            shard = self._reader.shards[self._shard]
            loaded = self._reader.load(shard)
            end = min(self._next + n, shard.n_activations)
            locations.append(loaded.locations[self._next : end].astype(location_type))
            activations.append(loaded.activations[self._next : end])
            n -= end - self._next
            self._next = end
            if end == shard.n_activations:
                self._shard, self._next = self._shard + 1, 0
        return np.concatenate(locations), np.concatenate(activations or [np.empty(0, np.float32)])


class RetypedSource(EntrySource):
    """Another source's entries, their activations held as `dtype`: `code` says what they come as."""

    def __init__(self, source: EntrySource, code: str, dtype: str) -> None:
        self._source = source
        self._code = code
        self._dtype = dtype

    def beginning_at(self, feature: int) -> "RetypedSource":
        """The same entries from those of `feature` on."""
        return RetypedSource(self._source.beginning_at(feature), self._code, self._dtype)

    def counts(self, first: int, end: int) -> Int64[Array, " features"]:
        """Number of entries of features `first` to `end` (exclusive)."""
        return self._source.counts(first, end)

    def take(self, n: int, location_type: np.dtype[np.unsignedinteger]) -> tuple[Array, Array]:
        """Locations and activations of the next `n` entries; raises `CacheError` for one that does not fit."""
        locations, held = self._source.take(n, location_type)
        return locations, stored(as_float32(held, self._code), self._dtype)


Layout: TypeAlias = Literal["native", "original", "delphi"]


_logger = logging.getLogger(__name__)


def convert_cache(
    source: str | Path,
    destination: str | Path,
    to: str,
    *,
    tokens: TokenRows | None = None,
    ctx_len: int | None = None,
    n_splits: int | None = None,
    activation_dtype: str | None = None,
    batch_size: int | None = None,
) -> dict[str, Path]:
    """Write all modules of the cache (or run directory) `source` into the new directory `destination`.

    `to` is "native", "original" or "delphi".

    `tokens` are the rows that were cached, where `source` does not store them; `ctx_len` is their length, which
    suffices unless `to` is "delphi". `n_splits` files per module, as many as in the source by default.
    `activation_dtype` changes the type of the activations; only then may they lose digits. `batch_size` is what
    delphi's configuration is to say of the batches in which the cache was made; it decides nothing. Returns the
    directory of each module. Raises `InputError` when something is missing or does not fit, and `CacheError` when the
    source is damaged.
    """
    layout, destination = _known_layout(to), Path(destination)
    root = _root_of(Path(source))
    readers = open_caches(root, verify=True, tokens=tokens, ctx_len=ctx_len)
    rows = tokens or stored_tokens(root, readers)
    if rows is not None:
        check_tokens(readers, rows)
    plans = {path: _description(reader, layout, rows, activation_dtype) for path, reader in readers.items()}
    ranges = {path: _ranges(plan.width, n_splits or len(plan.shards), layout) for path, plan in plans.items()}
    with _new_directory(destination) as work:
        for path, reader in readers.items():
            entries, plan = _entries(reader, plans[path].activation_dtype), replace(plans[path], shards=())
            if layout == "native":
                merge_into_cache(
                    [entries], work / path, ranges[path], plan, n_threads=1
                )  # an older shard is held whole
            else:
                write_older(
                    entries, work / path, ranges[path], plan, layout, _first_rows(rows, plan.n_rows), batch_size
                )
        if layout != "delphi":  # which takes everything in the directory for a module, and has tokens in the shards
            _write_beside(work, root, _first_rows(rows, max(plan.n_rows for plan in plans.values())))
    return {path: destination / path for path in readers}


def _known_layout(name: str) -> Layout:
    found = next((layout for layout in get_args(Layout) if layout == name), None)
    if found is None:
        raise UnknownNameError("layout", name, get_args(Layout))
    return found


def _root_of(source: Path) -> Path:
    """Where the modules are: of a run directory, its `features`."""
    if not source.is_dir():
        raise InputError(f"there is no directory {source}")
    return source / "features" if (source / "features").is_dir() else source


def _description(reader: Reader, to: Layout, rows: TokenRows | None, activation_dtype: str | None) -> CacheManifest:
    """The manifest of what is to be written, still with the shards of the source."""
    manifest = reader.manifest
    if to == "native" and isinstance(reader, CacheReader):
        raise InputError(f"{reader.directory} is in the native layout already; there is nothing to convert")
    if to == "delphi" and rows is None:
        raise InputError("delphi reads the tokens from its shards, and the source has none; pass the tokens")
    cached = _first_rows(rows, manifest.n_rows)
    if manifest.norm_mask is not None:
        _logger.warning(
            "%s has %d positions that were masked for their norm; this layout cannot say so, and there they are silent",
            reader.directory,
            manifest.norm_mask.n_positions,
        )
    dtype = _target_dtype(reader, to, activation_dtype)
    return replace(
        manifest,
        format_version=FORMAT_VERSION,
        activation_dtype=dtype,
        fingerprint=sha256(f"{manifest.fingerprint} {dtype}".encode()).hexdigest(),
        location_dtype=str(location_dtype(manifest.n_positions)),
        norm_mask=None,
        rows=rows_hash(cached.tokens, cached.documents) if cached is not None else "",
    )


def _ranges(width: int, n_splits: int, to: Layout) -> list[tuple[int, int]]:
    """First and last feature of each file; the original library looks for files of equal shares, rounded down."""
    ranges = shard_ranges(width, n_splits)
    if to == "native":
        return ranges
    ends = [(i + 1) * width // n_splits for i in range(n_splits)]
    return [(first, end - 1) for first, end in zip([0, *ends], ends, strict=False)]


def _target_dtype(reader: Reader, to: Layout, asked: str | None) -> str:
    """The source's own type unless another was asked for; delphi has float16 only."""
    dtype = reader.manifest.activation_dtype
    if asked is not None:
        activation_code(asked)
    if to == "delphi" and (asked or dtype) != "float16":
        raise InputError(
            f"{reader.directory} has {dtype} activations and delphi's layout float16, which has fewer digits; "
            "ask for activation_dtype float16 if that will do"
        )
    return asked or dtype


def _entries(reader: Reader, dtype: str) -> EntrySource:
    """The source's entries, activations held as `dtype`."""
    found = activation_code(reader.manifest.activation_dtype)
    if isinstance(reader, OlderCacheReader):
        source: EntrySource = OlderSource(reader)
        found = "F32" if found == "BF16" else found
    else:
        source = reader.source()
    return source if found == activation_code(dtype) else RetypedSource(source, found, dtype)


def _first_rows(rows: TokenRows | None, n_rows: int) -> TokenRows | None:
    if rows is None:
        return None
    return TokenRows(rows.tokens[:n_rows], rows.documents[:n_rows], rows.document_names)


def _write_beside(work: Path, root: Path, rows: TokenRows | None) -> None:
    """Tokens and vocabulary, where there are some."""
    if rows is not None:
        save_tokens(work / TOKENS, rows)
    if (root / VOCABULARY).is_file():
        with writing(work / VOCABULARY):
            shutil.copyfile(root / VOCABULARY, work / VOCABULARY)


@contextmanager
def _new_directory(destination: Path) -> Generator[Path]:
    """A directory to fill, which becomes `destination` when the block ends without an error and vanishes otherwise.

    What a killed run left of it is thrown away. Raises `InputError` when the destination holds something.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise InputError(f"{destination} exists and is not empty; choose a new directory")
    work = temporary_name(destination)
    shutil.rmtree(work, ignore_errors=True)
    with writing(work):
        work.mkdir(parents=True)
    try:
        yield work
        with writing(destination):
            if destination.exists():
                destination.rmdir()
            put_in_place(work, destination)
    finally:
        shutil.rmtree(work, ignore_errors=True)
