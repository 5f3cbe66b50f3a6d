"""Neighbours of a cache's features, saved beside it: `neighbours/{module path}/{kind}.safetensors`.

Directions come from the very weights that the cache was made with: they are found by name and known by their checksum,
so that no subject model need be loaded.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtyping import Float32, Int64

from sae_auto_interp.cache.opening import Reader
from sae_auto_interp.config import AutoencoderConfig, load_config, resolve_path
from sae_auto_interp.errors import CacheError, InputError
from sae_auto_interp.features import FeatureDataset
from sae_auto_interp.features.neighbours import NeighbourKind, Neighbours, chosen_features, source_of
from sae_auto_interp.features.neighbours.cooccurrence import (
    PMI_MIN_COUNT,
    jaccard_neighbours,
    n_text_units,
    pmi_neighbours,
)
from sae_auto_interp.features.neighbours.cosine import cosine_neighbours
from sae_auto_interp.features.token_input import without_positions
from sae_auto_interp.models.hub import cached_snapshot, parse_hub_ref
from sae_auto_interp.module_names import check_indices, resolve_module_name
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.run_links import refuse_links_outside
from sae_auto_interp.protocols import Progress
from sae_auto_interp.types import Array, CacheManifest, FeatureId

if TYPE_CHECKING:
    from sae_auto_interp.autoencoders import SparseCoder
    from sae_auto_interp.autoencoders.options import CoderOptions

FOLDER = "neighbours"
Nearest = tuple[Int64[Array, "m n"], Float32[Array, "m n"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourOptions:
    """Which neighbours are wanted. Raises `InputError` for a setting that the kind does not have."""

    kind: NeighbourKind
    n: int = 50
    unit_tokens: int | None = None
    """Tokens per unit that firing together is counted in; None: 1. Only for jaccard and pmi."""
    min_count: int | None = None
    """Units that a pair must share; None: what the kind's function has. Only for jaccard and pmi."""
    weights: Path | None = None
    """Directory of the autoencoders' weights; None: those of the run file. Only for decoder and encoder."""

    def __post_init__(self) -> None:
        foreign = ("unit_tokens", "min_count") if self.is_direction else ("weights",)
        for name in foreign:
            if getattr(self, name) is not None:
                raise InputError(f"{name}={getattr(self, name)} means nothing for {self.kind} neighbours; leave it out")

    @property
    def is_direction(self) -> bool:
        return self.kind in ("decoder", "encoder")


def run_neighbours(
    root: Path,
    options: NeighbourOptions,
    progress: Progress,
    *,
    features: Sequence[FeatureId] | None = None,
    out: Path | None = None,
) -> list[Path]:
    """Neighbours of `features` (None: all, of every module) of a run or cache directory; returns the files written.

    They go to `root/neighbours` unless `out` says otherwise. Raises `CacheError` when there is no finished cache or it
    does not hold what the kind needs, and `InputError` when the weights that it was made with are not found.
    """
    run = RunDirectory(root)
    if out is None:
        refuse_links_outside(root)
    dataset = FeatureDataset(run.features if run.features.is_dir() else root, verify=True)
    written: list[Path] = []
    for module, indices in _by_module(features, dataset).items():
        reader = dataset.readers[module]
        chosen = chosen_features(indices, reader.manifest.width)
        progress.note(f"{module}: {options.kind} neighbours of {len(chosen)} of {reader.manifest.width} features")
        found = _found(reader, indices, options, dataset, run)
        written.append(found.save(out if out is not None else root / FOLDER))
    return written


def neighbours_of(features: Sequence[FeatureId], dataset: FeatureDataset, run: RunDirectory) -> list[Neighbours]:
    """The neighbours that a run's records are to know of some features, by module; raises as `run_neighbours` does."""
    options = NeighbourOptions(kind=dataset.cfg.neighbours, n=dataset.cfg.n_neighbours)
    return [
        _found(dataset.readers[module], indices, options, dataset, run)
        for module, indices in _by_module(features, dataset).items()
    ]


def parse_features(text: str) -> list[FeatureId]:
    """`module_path:index`, several of them with commas between; raises `InputError` for anything else."""
    try:
        return [FeatureId.parse(part.strip()) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"features: {error}") from error


def _by_module(features: Sequence[FeatureId] | None, dataset: FeatureDataset) -> dict[str, list[int] | None]:
    """{module: indices asked for}, None for all."""
    if features is None:
        return dict.fromkeys(dataset.readers)
    chosen: dict[str, list[int] | None] = {}
    named = [(resolve_module_name(f.module_path, dataset.readers, "--features"), f.index) for f in features]
    for module in sorted({module for module, _ in named}):
        chosen[module] = [index for each, index in named if each == module]
        check_indices(module, chosen[module] or (), dataset.readers[module].manifest.width, "--features")
    return chosen


def _found(
    reader: Reader, indices: list[int] | None, options: NeighbourOptions, dataset: FeatureDataset, run: RunDirectory
) -> Neighbours:
    if options.is_direction:
        return _by_direction(reader.manifest, indices, options, run)
    return _by_firing(reader, indices, options, dataset)


def _by_direction(
    manifest: CacheManifest, indices: Iterable[int] | None, options: NeighbourOptions, run: RunDirectory
) -> Neighbours:
    places = weight_places(run) if options.weights is None else [options.weights]
    coder = coder_of(manifest, places, weight_options(run))
    vectors = coder.w_dec if options.kind == "decoder" else coder.w_enc
    found = cosine_neighbours(vectors.numpy(), options.n, features=indices)
    return _neighbours(manifest, indices, options, found)


def _by_firing(
    reader: Reader, indices: Iterable[int] | None, options: NeighbourOptions, dataset: FeatureDataset
) -> Neighbours:
    unit_tokens = options.unit_tokens or 1
    if options.kind == "jaccard":
        min_count = options.min_count or 1
        found = jaccard_neighbours(reader, options.n, features=indices, unit_tokens=unit_tokens, min_count=min_count)
    else:
        min_count = options.min_count or PMI_MIN_COUNT
        n_units = _n_units(reader.manifest, dataset, unit_tokens)
        found = pmi_neighbours(
            reader, options.n, n_units, features=indices, unit_tokens=unit_tokens, min_count=min_count
        )
    return _neighbours(reader.manifest, indices, options, found, unit_tokens, min_count)


def _neighbours(
    manifest: CacheManifest,
    indices: Iterable[int] | None,
    options: NeighbourOptions,
    found: Nearest,
    unit_tokens: int | None = None,
    min_count: int | None = None,
) -> Neighbours:
    return Neighbours(
        module_path=manifest.module_path,
        kind=options.kind,
        source=source_of(manifest, options.kind),
        features=chosen_features(indices, manifest.width),
        indices=found[0],
        values=found[1],
        unit_tokens=unit_tokens,
        min_count=min_count,
    )


def _n_units(manifest: CacheManifest, dataset: FeatureDataset, unit_tokens: int) -> int:
    rows = dataset.tokens
    if rows is None:
        raise CacheError(
            f"{dataset.raw_dir} keeps no tokens, and without the number of text tokens there is no PMI; "
            "use --kind jaccard, or pmi_neighbours with the number given"
        )
    read = without_positions(rows, dataset.masked_positions(manifest.module_path))
    return n_text_units(read.documents[: manifest.n_rows], unit_tokens)


def weight_places(run: RunDirectory) -> list[Path]:
    """The directories of weights that the run file names."""
    if not run.config.is_file():
        raise InputError(
            f"{run.root} has no run file that names the autoencoders' weights; give their directory (--weights)"
        )
    autoencoders = load_config(run.config).autoencoders
    return [_weight_place(run, resolve_path(each.path)) for each in autoencoders if isinstance(each, AutoencoderConfig)]


def _weight_place(run: RunDirectory, ref: str) -> Path:
    """Where weights are on this machine; those from the hub are where they were fetched to."""
    address = parse_hub_ref(run.pinned(ref))
    return Path(ref) if address is None else cached_snapshot(address) / address.path


def names_weights(manifest: CacheManifest) -> bool:
    """Whether a cache says which files its coder was read from; coders that are made come from none."""
    from sae_auto_interp.autoencoders.detect import FAMILIES

    return manifest.autoencoder.partition(":")[0] in FAMILIES and bool(manifest.weights_sha256)


def weight_files(manifest: CacheManifest, places: Sequence[Path]) -> list[Path]:
    """Where the coder of a cache may lie in `places`, by its name; raises `InputError` when it is nowhere."""
    family, _, name = manifest.autoencoder.partition(":")
    paths = [path for place in places for path in (place, *place.rglob("*")) if path.name == name and path.exists()]
    if not paths:
        listed = ", ".join(map(str, places))
        raise InputError(f"{listed} has no {family} autoencoder {name!r}; give the directory that has it (--weights)")
    return paths


def weight_options(run: RunDirectory) -> "list[CoderOptions]":
    """How the run file has weights read, beside what their files say; nothing of a directory without one."""
    from sae_auto_interp.autoencoders.options import options_of

    if not run.config.is_file():
        return []
    entries = load_config(run.config).autoencoders
    return [options_of(each.options, "") for each in entries if isinstance(each, AutoencoderConfig) and each.options]


def coder_of(manifest: CacheManifest, places: Sequence[Path], options: "Sequence[CoderOptions]" = ()) -> "SparseCoder":
    """The coder whose weights have the manifest's checksum, among those in `places` that are called as it says, read
    as `options` say or as their files do.

    Raises `CacheError` where the cache names none, `InputError` where they are not found or have changed.
    """
    from sae_auto_interp.autoencoders.detect import FAMILIES
    from sae_auto_interp.autoencoders.families import own_format
    from sae_auto_interp.models.identity import weights_sha256

    family, _, name = manifest.autoencoder.partition(":")
    if not names_weights(manifest):
        raise CacheError(
            f"the cache of {manifest.module_path} does not say which weights it was made with "
            f"({manifest.autoencoder!r}); load them and use cosine_neighbours"
        )
    read_with = getattr(FAMILIES[family], "read_with", None)
    for path in weight_files(manifest, places):
        is_ours = own_format.recognise(path) is not None  # it may have been saved in our own format since
        readers = [partial(read_with, path, each) for each in options] if read_with is not None else []
        for read in [partial(own_format.read, path)] if is_ours else [*readers, partial(FAMILIES[family].read, path)]:
            coder = read()
            if weights_sha256(coder) == manifest.weights_sha256:
                return coder
    listed = ", ".join(map(str, places))
    raise InputError(
        f"{name!r} in {listed} is not the autoencoder that {manifest.module_path} was cached with: "
        "its weights changed since; give the directory that has them (--weights), or cache again"
    )
