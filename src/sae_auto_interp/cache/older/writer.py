"""Write a module's shards in the layout of the original library or of delphi, a block of entries at a time.

Entries are in the order of our own store: by feature, then by location. Both libraries sort by feature when they
read, and keep the order of a feature's entries. The last feature of each shard is written, unlike in the original.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from sae_auto_interp.cache.arrays import ArrayWriter
from sae_auto_interp.cache.files import write_text
from sae_auto_interp.cache.layout import location_dtype, shard_name
from sae_auto_interp.cache.older.files import OlderLayout
from sae_auto_interp.cache.source import EntrySource
from sae_auto_interp.cache.tokens import token_arrays
from sae_auto_interp.cache.value_types import CODE_OF, HELD_AS, activation_code
from sae_auto_interp.types import Array, CacheManifest, TokenRows

CONFIG = "config.json"
DELPHI_BATCH_SIZE = 32
"""The default of delphi's `CacheConfig`, whose own tests look for the field; nothing in a cache depends on it."""
BLOCK_ENTRIES = 1 << 20
"""Entries turned into rows, positions and features at a time: about 40 MiB."""


def write_older(
    source: EntrySource,
    directory: Path,
    ranges: Sequence[tuple[int, int]],
    description: CacheManifest,
    layout: OlderLayout,
    rows: TokenRows | None,
    batch_size: int | None = None,
) -> None:
    """Write the shards of one module, and delphi's `config.json` at last. `rows` go into delphi's shards.

    `description` says the type of the activations and what the configuration is to tell.
    """
    directory.mkdir(parents=True)
    for first, last in ranges:
        tokens = {} if rows is None or layout == "original" else _token_arrays(rows, with_documents=first == 0)
        _write_shard(source, directory, first, last, description, layout, tokens)
    if layout == "delphi":
        write_text(directory / CONFIG, json.dumps(_config(description, len(ranges), batch_size), indent=4) + "\n")


def _write_shard(
    source: EntrySource,
    directory: Path,
    first: int,
    last: int,
    description: CacheManifest,
    layout: OlderLayout,
    tokens: Mapping[str, Array],
) -> None:
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(source.counts(first, last + 1))])
    n = int(offsets[-1])
    code = "I64" if layout == "original" else _relative_code(last - first + 1, description)
    arrays = {name: (CODE_OF[array.dtype], array.shape) for name, array in tokens.items()}
    arrays |= {"locations": (code, (n, 3)), "activations": (activation_code(description.activation_dtype), (n,))}
    shown_first = first if layout == "original" else 0
    with ArrayWriter(directory / shard_name(first, last), arrays) as shard:
        for name, array in tokens.items():
            shard.append(name, array)
        for begin in range(0, n, BLOCK_ENTRIES):
            end = min(begin + BLOCK_ENTRIES, n)
            places, activations = source.take(end - begin, location_dtype(description.n_positions + 1))
            features = np.searchsorted(offsets, np.arange(begin, end), side="right") - 1 + shown_first
            shard.append("locations", _triples(places, features, description.ctx_len, HELD_AS[code]))
            shard.append("activations", activations)


def _triples(
    places: Integer[Array, " n"], features: Integer[Array, " n"], ctx_len: int, dtype: "np.dtype[np.generic]"
) -> Integer[Array, "n 3"]:
    """(row, position, feature) of flat token indices."""
    triples = np.empty((len(places), 3), dtype=dtype)
    row, position = np.divmod(places, places.dtype.type(ctx_len))
    triples[:, 0], triples[:, 1], triples[:, 2] = row, position, features
    return triples


def _relative_code(n_features: int, description: CacheManifest) -> str:
    """delphi has 16 bits where they hold every row, position and feature, else 32."""
    largest = max(n_features, description.n_rows, description.ctx_len)
    assert largest <= 1 << 32, f"delphi's layout has 32 bits; {largest} does not fit"
    return "U16" if largest <= 1 << 16 else "U32"


def _token_arrays(rows: TokenRows, *, with_documents: bool) -> dict[str, Array]:
    """int64 tokens as delphi writes them; it ignores the arrays that say which document each is of."""
    arrays = token_arrays(rows)
    tokens = {"tokens": rows.tokens.astype(np.int64)}
    return arrays | tokens if with_documents else tokens


def _config(description: CacheManifest, n_splits: int, batch_size: int | None) -> dict[str, object]:
    """What delphi's `CacheConfig` calls what is known; a `batch_size` that is not known is delphi's own."""
    return {
        "batch_size": batch_size or DELPHI_BATCH_SIZE,
        "dataset_repo": description.data,
        "cache_ctx_len": description.ctx_len,
        "n_tokens": description.n_positions,
        "n_splits": n_splits,
        "model_name": description.model,
    }
