"""Commands on finished caches: convert, merge, neighbours, triage."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from sae_auto_interp.cli.app import RunDir, app


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Directory of a cache, or run directory.", show_default=False)],
    destination: Annotated[Path, typer.Argument(help="New directory for the result.", show_default=False)],
    to: Annotated[Literal["native", "original", "delphi"], typer.Option("--to", help="Layout.", show_default=False)],
    tokens: Annotated[
        Path | None, typer.Option("--tokens", help="Cached rows (.npy or .safetensors), where SOURCE stores none.")
    ] = None,
    ctx_len: Annotated[
        int | None, typer.Option("--ctx-len", min=1, help="Length of the rows, where nothing in SOURCE says it.")
    ] = None,
    n_splits: Annotated[
        int | None, typer.Option("--n-splits", min=1, help="Files per module; as many as in SOURCE by default.")
    ] = None,
    activation_dtype: Annotated[
        str | None, typer.Option("--activation-dtype", help="Store activations as float16, bfloat16 or float32.")
    ] = None,
) -> None:
    """Turn a cache of the original library or of delphi into our layout, or any cache into theirs."""
    from sae_auto_interp.cache.older.convert import convert_cache
    from sae_auto_interp.cache.tokens import load_tokens
    from sae_auto_interp.config import load_config

    rows = None if tokens is None else load_tokens(tokens)
    run_file = source / "config.yaml"
    modules = convert_cache(
        source, destination, to, tokens=rows, ctx_len=ctx_len, n_splits=n_splits, activation_dtype=activation_dtype,
        batch_size=load_config(run_file).cache.batch_size if run_file.is_file() else None,
    )  # fmt: skip
    typer.echo(f"{len(modules)} modules are in {destination}: {', '.join(modules)}")


@app.command()
def merge(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Run directories, or directories of caches, over different rows.",
            metavar="RUN_OR_CACHE_DIR...",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="New directory for the cache of all the rows.", show_default=False)
    ],
    n_splits: Annotated[
        int | None, typer.Option("--n-splits", min=1, help="Files per module; as many as in the first by default.")
    ] = None,
) -> None:
    """Merge finished caches over different rows, of the same configuration, into one; rows keep the order given."""
    from sae_auto_interp.cache.combine import combine_caches

    manifests = combine_caches(sources, out, n_splits)
    n_rows = next(iter(manifests.values())).n_rows
    typer.echo(f"{n_rows} rows of {len(manifests)} modules are in {out}")


@app.command()
def neighbours(
    directory: Annotated[Path, typer.Argument(help="Run directory, or directory of a cache.", show_default=False)],
    kind: Annotated[
        Literal["decoder", "encoder", "jaccard", "pmi"],
        typer.Option("--kind", help="Alike directions (cosine), or firing together.", show_default=False),
    ],
    n: Annotated[int, typer.Option("--n", min=1, help="Neighbours per feature.")] = 50,
    features: Annotated[
        str | None, typer.Option("--features", help="module_path:index,...; all features by default.")
    ] = None,
    unit_tokens: Annotated[
        int | None,
        typer.Option("--unit-tokens", min=1, help="Both fire in one block of this many tokens [1]."),
    ] = None,
    min_count: Annotated[
        int | None, typer.Option("--min-count", min=1, help="Units that a pair must share [jaccard 1, pmi 6].")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Directory of the autoencoders' weights, if not the run file's.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Where to; DIRECTORY/neighbours by default.")] = None,
) -> None:
    """Find the features closest to each: by the autoencoder's directions, or by firing together in the cache."""
    from sae_auto_interp.pipeline.neighbours import NeighbourOptions, parse_features, run_neighbours
    from sae_auto_interp.pipeline.progress.displays import make_progress

    options = NeighbourOptions(kind=kind, n=n, unit_tokens=unit_tokens, min_count=min_count, weights=weights)
    chosen = None if features is None else parse_features(features)
    with make_progress() as progress:
        for path in run_neighbours(directory, options, progress, features=chosen, out=out):
            typer.echo(f"neighbours: {path}")


@app.command()
def triage(run_dir: RunDir) -> None:
    """Label the features that need no language model: dead, rare, dense, positional, single-token, previous-token."""
    from sae_auto_interp.config import load_config
    from sae_auto_interp.pipeline.record_stage import open_loader
    from sae_auto_interp.pipeline.resolved import resolve_records
    from sae_auto_interp.pipeline.run_directory import RunDirectory
    from sae_auto_interp.pipeline.run_links import refuse_links_outside
    from sae_auto_interp.pipeline.triage import triage_of

    refuse_links_outside(run_dir)
    directory = RunDirectory(run_dir)
    config = load_config(directory.config)
    loader = open_loader(resolve_records(config.features, config.seed), directory)
    for module in loader.dataset.readers:
        found = triage_of(loader, module, directory.root)
        counts = ", ".join(f"{label} {n}" for label, n in sorted(found.counts().items()))
        typer.echo(f"{module}: {len(found.profiles)} features: {counts}")
