"""Finished caches over different rows -> one, the very files that a single run over all the rows would have written.

Each source's shards are feature-sorted already, so this is a merge. Sources are directories as `save_splits` leaves
them, `{module path}/...` and the vocabulary; or run directories, with those in `features/` and the token rows beside.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from sae_auto_interp.cache.arrays import ArrayFile, ArrayWriter
from sae_auto_interp.cache.files import DurableFile, sha256_of
from sae_auto_interp.cache.fingerprints import NO_ROWS, cache_fingerprint, joined_hash, rows_hash
from sae_auto_interp.cache.layout import MANIFEST, SHARD_PATTERN, TOKENS, VOCABULARY, location_dtype, shard_ranges
from sae_auto_interp.cache.merge import merge_into_cache
from sae_auto_interp.cache.reader import CacheReader, read_manifest
from sae_auto_interp.cache.tokens import load_tokens
from sae_auto_interp.errors import CacheError, InputError
from sae_auto_interp.types import NO_DOCUMENT, Array, CacheManifest, NormMask

FEATURES = "features"
UNFINISHED = ".unfinished"
"""Where a run directory keeps the work of a cache that is not finished."""
ROWS_AT_A_TIME = 4096
_MUST_AGREE = {
    "weights_sha256": "weights of the autoencoder",
    "width": "width",
    "ctx_len": "ctx_len",
    "activation_dtype": "activation_dtype",
    "configuration": "model, autoencoder settings, set of modules or filters, norm mask",
}
"""Field of the manifest -> what it is that differs."""


@dataclass(frozen=True, slots=True)
class _Source:
    """A finished cache of all modules of a run, every byte of it verified."""

    root: Path
    features: Path
    readers: Mapping[str, CacheReader]

    @property
    def tokens(self) -> Path | None:
        """The token rows of a run directory."""
        path = self.root / TOKENS
        return path if self.features != self.root and path.is_file() else None

    @property
    def manifest(self) -> CacheManifest:
        """The manifest of any of its modules: all were cached over the same rows."""
        return next(iter(self.readers.values())).manifest


def combine_caches(sources: Sequence[Path], destination: Path, n_splits: int | None = None) -> dict[str, CacheManifest]:
    """Write the cache of the rows of all sources, in the order of `sources`, into `destination`.

    Run directories give `destination` the same form, and their token rows follow each other too. `n_splits` is the
    number of shards; None takes that of the first source. Killed or out of disk, the same call goes on. Raises
    `CacheError` for a source that is unfinished, damaged, of another configuration, or there twice, and for a
    destination that holds another cache; `InputError` for fewer than two sources.
    """
    if len(sources) < 2:
        raise InputError(f"merging needs two caches or more; {len(sources)} given")
    opened = [_opened(Path(source)) for source in sources]
    _check_same_form(opened, destination)
    for module in opened[0].readers:
        _check_configuration(opened, module)
    is_run = opened[0].features != opened[0].root
    features = destination / FEATURES if is_run else destination
    _check_destination(opened, features, n_splits)
    features.mkdir(parents=True, exist_ok=True)
    manifests: dict[str, CacheManifest] = {}
    if opened[0].tokens is not None:
        _join_tokens(opened, destination / TOKENS)
    _copy_vocabulary(opened, features)
    for module in opened[0].readers:
        manifests[module] = _combine_module([source.readers[module] for source in opened], features / module, n_splits)
    return manifests


def _opened(root: Path) -> _Source:
    """Raises `CacheError` when there is no finished cache, or a byte of it is not what was written."""
    features = root / FEATURES if (root / FEATURES).is_dir() else root
    if (features / UNFINISHED).is_dir():
        raise CacheError(
            f"{root} is not finished (it has {features / UNFINISHED}); run its cache stage again, it resumes"
        )
    patterns = (f"*/{pattern}" for pattern in (MANIFEST, SHARD_PATTERN, f".{SHARD_PATTERN}.partial"))
    directories = sorted({path.parent for pattern in patterns for path in features.glob(pattern)})
    if not directories:
        raise CacheError(f"{root} holds no cache: give a directory that `cache`, `run` or save_splits wrote")
    readers = {reader.module_path: reader for reader in (CacheReader(path, verify=True) for path in directories)}
    return _Source(root, features, readers)


def _check_same_form(sources: Sequence[_Source], destination: Path) -> None:
    first = sources[0]
    for source in sources:
        if destination.resolve() in (source.root.resolve(), source.features.resolve()):
            raise CacheError(f"{destination} is one of the sources; choose another directory")
        if set(source.readers) != set(first.readers):
            raise CacheError(
                f"{source.root} holds {', '.join(sorted(source.readers))}, "
                f"but {first.root} holds {', '.join(sorted(first.readers))}; merge runs over the same modules"
            )
        if (source.tokens is None) != (first.tokens is None):
            without = source if source.tokens is None else first
            raise CacheError(f"{without.root} has no {TOKENS} beside its cache, as the others have; give all or none")


def _check_configuration(sources: Sequence[_Source], module: str) -> None:
    """Raises `CacheError` unless the sources differ in their rows, and in nothing else."""
    first, seen = sources[0].readers[module].manifest, dict[str, Path]()
    for source in sources:
        manifest = source.readers[module].manifest
        if not manifest.configuration:
            raise CacheError(
                f"{source.features / module} does not say how it was made (it was converted, or is of format 1)"
            )
        for name, meaning in _MUST_AGREE.items():
            if getattr(manifest, name) != getattr(first, name):
                found, wanted = getattr(manifest, name), getattr(first, name)
                raise CacheError(
                    f"{source.features / module} has another {meaning} than {sources[0].features / module} "
                    f"({name} {found} and {wanted}); only runs of the same configuration can be merged"
                )
        if manifest.fingerprint in seen:
            raise CacheError(f"{source.root} holds the same rows as {seen[manifest.fingerprint]}; give each once")
        seen[manifest.fingerprint] = source.root


def _check_destination(sources: Sequence[_Source], features: Path, n_splits: int | None) -> None:
    """Before anything is written: what is there already must be this very result, finished or begun."""
    expected = set(sources[0].readers)
    for path in sorted(features.glob(f"*/{MANIFEST}")):
        if path.parent.name not in expected:
            raise CacheError(f"{path.parent} is of another cache; choose another directory")
        readers = [source.readers[path.parent.name] for source in sources]
        _check_same_result(path.parent, readers, n_splits)


def _check_same_result(directory: Path, readers: Sequence[CacheReader], n_splits: int | None) -> CacheManifest:
    """The manifest in `directory`, if it is that of the readers' rows together, over as many shards as wanted."""
    found = read_manifest(directory)
    description = _description([reader.manifest for reader in readers])
    if replace(found, shards=(), statistics_sha256="", norm_mask=_norm_mask(found)) != description:
        raise CacheError(f"{directory} holds another cache; choose another directory")
    if len(found.shards) != (n_splits or len(readers[0].manifest.shards)):
        raise CacheError(f"{directory} holds this cache in {len(found.shards)} shards; choose another directory")
    return found


def _combine_module(readers: Sequence[CacheReader], directory: Path, n_splits: int | None) -> CacheManifest:
    description = _description([reader.manifest for reader in readers])
    if (directory / MANIFEST).is_file():
        found = _check_same_result(directory, readers, n_splits)
        CacheReader(directory, verify=True)
        return found
    first_rows = _first_rows([reader.manifest.n_rows for reader in readers])
    shifts = (first_rows * description.ctx_len).tolist()
    sources = [reader.source(shift=shift) for reader, shift in zip(readers, shifts, strict=True)]
    masked = [reader.masked_positions() + shift for reader, shift in zip(readers, shifts, strict=True)]
    ranges = shard_ranges(description.width, n_splits or len(readers[0].manifest.shards))
    return merge_into_cache(sources, directory, ranges, description, np.concatenate(masked))


def _description(manifests: Sequence[CacheManifest]) -> CacheManifest:
    """The manifest of the whole, but for the files."""
    first = manifests[0]
    n_rows = sum(manifest.n_rows for manifest in manifests)
    rows = joined_hash((manifest.rows, manifest.n_rows) for manifest in manifests)
    return replace(
        first,
        data=" + ".join(dict.fromkeys(manifest.data for manifest in manifests)),
        n_rows=n_rows,
        location_dtype=str(location_dtype(n_rows * first.ctx_len)),
        shards=(),
        fingerprint=cache_fingerprint(first.configuration, rows, n_rows, first.ctx_len),
        rows=rows,
        statistics_sha256="",
        norm_mask=_norm_mask(first),
    )


def _norm_mask(manifest: CacheManifest) -> NormMask | None:
    """What decides which positions are masked, without which they are."""
    mask = manifest.norm_mask
    return None if mask is None else replace(mask, n_positions=0, sha256="")


def _first_rows(n_rows: Sequence[int]) -> Int64[Array, " n_sources"]:
    return np.cumsum([0, *n_rows[:-1]], dtype=np.int64)


def _copy_vocabulary(sources: Sequence[_Source], features: Path) -> None:
    """The sources' vocabulary, where they have one; raises `CacheError` when they have different ones."""
    paths = [source.features / VOCABULARY for source in sources if (source.features / VOCABULARY).is_file()]
    for path in paths[1:]:
        if sha256_of(path) != sha256_of(paths[0]):
            raise CacheError(f"{path} is not the vocabulary of {paths[0]}; merge runs of the same tokenizer")
    if paths:
        with DurableFile(features / VOCABULARY) as file:
            file.write(paths[0].read_bytes(), at=0)


def _join_tokens(sources: Sequence[_Source], path: Path) -> None:
    """The token rows of all sources in one file; documents are numbered on from source to source.

    Raises `CacheError` when the rows of a source are not those of its cache.
    """
    for source in sources:
        load_tokens(source.root / TOKENS)  # which document each token is of is checked there, and nowhere else
    files = [ArrayFile(source.root / TOKENS) for source in sources]
    names = [file.read("document_names").tobytes() for file in files]
    joined = b"\0".join(names)
    n_rows = sum(source.manifest.n_rows for source in sources)
    shape = n_rows, sources[0].manifest.ctx_len
    arrays = {"tokens": ("I32", shape), "documents": ("I32", shape), "document_names": ("U8", (len(joined),))}
    with ArrayWriter(path, arrays) as writer:
        first_document = 0
        for source, file, name in zip(sources, files, names, strict=True):
            found = NO_ROWS
            for tokens, documents in _blocks_of_rows(file, source.manifest):
                found = rows_hash(tokens, documents, found)
                writer.append("tokens", tokens)
                is_text = documents != NO_DOCUMENT
                writer.append("documents", np.where(is_text, documents + np.int32(first_document), documents))
            if found != source.manifest.rows:
                raise CacheError(f"{file.path} does not hold the rows that {source.features} was cached from")
            first_document += name.count(b"\0") + 1
        writer.append("document_names", np.frombuffer(joined, dtype=np.uint8))


def _blocks_of_rows(file: ArrayFile, manifest: CacheManifest) -> Iterator[tuple[Array, Array]]:
    """Tokens and documents of the rows that were cached, some rows at a time."""
    n_rows, ctx_len = manifest.n_rows, manifest.ctx_len
    for name in ("tokens", "documents"):
        shape = file.shape(name)
        if file.code(name) != "I32" or len(shape) != 2 or shape[0] < n_rows or shape[1] != ctx_len:
            raise file.unreadable(
                f"{name!r} is {file.code(name)}{list(shape)}; the cache has {n_rows} rows of {ctx_len}"
            )
    for first in range(0, n_rows, ROWS_AT_A_TIME):
        last = min(first + ROWS_AT_A_TIME, n_rows)
        tokens, documents = (
            file.read(name, first * ctx_len, last * ctx_len).reshape(-1, ctx_len) for name in ("tokens", "documents")
        )
        yield tokens, documents
