"""The command line: parse, build the configuration, call the pipeline, print. No logic of its own.

Every mistake of a user ends in one line on standard error and exit status 2; an interruption says how to resume and
ends with 130.
"""

import asyncio
import errno
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer.exceptions import TyperException

from sae_auto_interp import __version__
from sae_auto_interp.errors import PreflightError, SaeAutoInterpError

if TYPE_CHECKING:
    from rich.console import Console

    from sae_auto_interp.config import ClientConfig, RunConfig

app = typer.Typer(
    name="sae-auto-interp",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Explain the features of sparse autoencoders in words, and measure how good each explanation is.\n\n"
    "Start with `sae-auto-interp demo`: it needs no key, no GPU and no download.",
)

INTERRUPTED = 130
"""Exit status after ctrl-C, as shells count it."""
DISK_TROUBLES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)
"""Full, over quota, or not ours to write: a user's to mend, unlike other trouble with files."""
FILE_WIDTH = 140
"""Columns of a table that goes to a file or a pipe."""

RunDir = Annotated[Path, typer.Argument(help="Run directory, made by `run`, `cache` or `demo`.", show_default=False)]
OutDir = Annotated[Path, typer.Option("--out", help="Run directory: created if new, resumed if it exists.")]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url", envvar="OPENAI_BASE_URL", help="An OpenAI-compatible endpoint, e.g. http://127.0.0.1:8000/v1."
    ),
]
Model = Annotated[
    str | None, typer.Option("--model", help="Model at the endpoint; may be left out if it serves only one.")
]
Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", help="Let the autoencoders' check pass what it refuses by this name: fvu, l0, model, ..."),
]
SkipCheck = Annotated[bool, typer.Option("--skip-check", help="Cache without checking the autoencoders first.")]
Concurrency = Annotated[int, typer.Option("--max-concurrency", min=1, help="Requests in flight at most.")]


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def demo(
    out: OutDir = Path("demo_run"),
    features: Annotated[
        int,
        typer.Option("--features", min=3, help="Features to explain at least, shared evenly by three autoencoders."),
    ] = 60,
    base_url: BaseUrl = None,
    model: Model = None,
    max_concurrency: Concurrency = 16,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
) -> None:
    """Run the whole job on the embedded language model and its autoencoders.

    Without an endpoint, features are explained and scored by token rules (the lexical baseline). With --base-url, or
    OPENAI_BASE_URL set, the language model there explains and judges too; its key is read from OPENAI_API_KEY.
    """
    from sae_auto_interp.pipeline.demo import demo_config

    _run_all(demo_config(features, _client(base_url, model, max_concurrency), seed), out)


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="Run file (YAML).", metavar="CONFIG.yaml", show_default=False)],
    out: OutDir = Path("run"),
    allow: Allow = None,
    skip_check: SkipCheck = False,
) -> None:
    """Run all stages of a run file: check, cache, explain, score, report."""
    _run_all(_with_check(config, allow, skip_check), out)


@app.command()
def cache(
    config: Annotated[Path, typer.Argument(help="Run file (YAML).", metavar="CONFIG.yaml", show_default=False)],
    out: OutDir = Path("run"),
    allow: Allow = None,
    skip_check: SkipCheck = False,
) -> None:
    """Cache the autoencoders' activations into a run directory; `explain` and `score` go on from there."""
    _run(_with_check(config, allow, skip_check), out, "cache")
    typer.echo(f"activations are in {out / 'features'}; next: sae-auto-interp explain {out}")


@app.command()
def check(
    config: Annotated[
        Path | None, typer.Argument(help="Run file (YAML), unless --model is given.", metavar="[CONFIG.yaml]")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Subject model: a directory or a hub id.")] = None,
    autoencoders: Annotated[
        list[str] | None, typer.Option("--autoencoders", help="Directory of weights; may be given several times.")
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", help="Source of the text, as data.source in a run file.")
    ] = None,
    n_tokens: Annotated[int | None, typer.Option("--n-tokens", min=1, help="Text tokens to check on [4096].")] = None,
    allow: Allow = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything that was found as JSON.")] = False,
) -> None:
    """Check whether autoencoders fit the model where they are attached, before anything is cached."""
    from sae_auto_interp.pipeline.check import check_config, run_check
    from sae_auto_interp.pipeline.preflight_stage import raise_refused
    from sae_auto_interp.pipeline.progress import make_progress

    wanted = check_config(config, model, autoencoders, text, n_tokens, allow)
    with make_progress() as progress:
        found = run_check(wanted, progress)
    if as_json:
        typer.echo(json.dumps([each.as_json() for each in found], indent=2))
    else:
        from sae_auto_interp.report import preflight_table

        _console().print(preflight_table(found))
    raise_refused(found)


@app.command()
def explain(run_dir: RunDir, base_url: BaseUrl = None, model: Model = None, max_concurrency: Concurrency = 16) -> None:
    """Explain the features of a run directory. With --base-url a language model explains too."""
    _run(_stored(run_dir, base_url, model, max_concurrency), run_dir, "explain")
    typer.echo(f"next: sae-auto-interp score {run_dir}")


@app.command()
def score(run_dir: RunDir, base_url: BaseUrl = None, model: Model = None, max_concurrency: Concurrency = 16) -> None:
    """Score the explanations of a run directory, and their shuffled controls (explains first what is not explained)."""
    _run(_stored(run_dir, base_url, model, max_concurrency), run_dir, "score")
    _print_summary(run_dir)


@app.command()
def report(run_dir: RunDir) -> None:
    """Print the table of a run directory and write its self-contained HTML page. Calls no model."""
    _print_summary(run_dir)
    _write_report(run_dir)


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(help="Run directory.", show_default=False)],
    run_b: Annotated[Path, typer.Argument(help="Run directory over the same features.", show_default=False)],
    metric: Annotated[
        str,
        typer.Option("--metric", help="balanced_accuracy, tpr, tnr, precision, f1, mcc, auroc, ev_correlation, ..."),
    ] = "balanced_accuracy",
) -> None:
    """Compare two runs feature by feature: difference with interval, effect size, p-value. Calls no model."""
    from sae_auto_interp.report import compare_runs, comparison_table

    _console().print(comparison_table(compare_runs(run_a, run_b, metric), str(run_a), str(run_b)))


@app.command()
def power(
    difference: Annotated[
        list[float] | None, typer.Option("--difference", help="To be found; may be repeated [0.01, 0.02, 0.05].")
    ] = None,
    n: Annotated[
        list[int] | None, typer.Option("--n", help="Features; may be repeated [50, 100, 300, 500, 1000].")
    ] = None,
    sd: Annotated[
        float | None, typer.Option("--sd", help="Standard deviation of scores between features [0.141].")
    ] = None,
    power: Annotated[float, typer.Option("--power", help="Probability to find the difference.")] = 0.8,
    alpha: Annotated[float, typer.Option("--alpha", help="Level of the two-sided test.")] = 0.05,
) -> None:
    """Plan a run: how many features a difference needs, and what a number of features can tell."""
    from sae_auto_interp.report import power_tables

    _console().print(power_tables(difference, n, sd, power, alpha))


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
    from sae_auto_interp.cache.convert import convert_cache
    from sae_auto_interp.cache.tokens import load_tokens

    rows = None if tokens is None else load_tokens(tokens)
    modules = convert_cache(
        source, destination, to, tokens=rows, ctx_len=ctx_len, n_splits=n_splits, activation_dtype=activation_dtype
    )
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
        int | None, typer.Option("--unit-tokens", min=1, help="Together: within so many tokens of the row's grid [1].")
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
    from sae_auto_interp.pipeline.progress import make_progress

    options = NeighbourOptions(kind=kind, n=n, unit_tokens=unit_tokens, min_count=min_count, weights=weights)
    chosen = None if features is None else parse_features(features)
    with make_progress() as progress:
        for path in run_neighbours(directory, options, progress, features=chosen, out=out):
            typer.echo(f"neighbours: {path}")


@app.command()
def loss_recovered(
    config: Annotated[Path, typer.Argument(help="Run file (YAML).", metavar="CONFIG.yaml", show_default=False)],
    n_tokens: Annotated[
        int | None, typer.Option("--n-tokens", min=1, help="Text tokens; by default as many as the run file says.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure how much of the model's next-token loss each autoencoder's reconstruction keeps.

    1: as good as the activation itself; 0: no better than its mean (or zero) in its place. Explains nothing, stores
    nothing.
    """
    from sae_auto_interp.config import load_config
    from sae_auto_interp.pipeline.loss_recovered import run_loss_recovered
    from sae_auto_interp.pipeline.progress import make_progress
    from sae_auto_interp.report.losses import losses_json, losses_table

    settings = load_config(config)
    with make_progress() as progress:
        estimates = run_loss_recovered(settings, progress, n_tokens)
    if as_json:
        typer.echo(losses_json(estimates))
    else:
        _console().print(losses_table(estimates))


def main() -> None:
    """Entry point: turns every error of ours into one line and an exit status."""
    try:
        status = app(standalone_mode=False)
    except PreflightError as error:
        status = max(_fail(message) for message in error.messages)
    except SaeAutoInterpError as error:
        status = _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except OSError as error:
        if error.errno not in DISK_TROUBLES:
            raise
        status = _fail(
            f"{error.strerror}: {error.filename or 'while writing'}; what is finished is kept: run again once mended"
        )
    except TyperException as error:
        status = _usage_error(error)
    if status == INTERRUPTED:  # typer itself may have turned ctrl-C into this status
        print("interrupted; nothing finished is lost: run the same command again to go on", file=sys.stderr)
    sys.exit(status if isinstance(status, int) else 0)


def _usage_error(error: TyperException) -> int:
    """Typer's complaints about the command line, in our form; none when it has printed the help instead."""
    say = getattr(error, "format_message", None)
    message = say() if say else str(error)
    return _fail(message) if message else 2


def _fail(message: str) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return 2


def _client(base_url: str | None, model: str | None, max_concurrency: int) -> "ClientConfig | None":
    """The endpoint asked for; a model without one is OpenAI's if there is a key for it."""
    from sae_auto_interp.config import ClientConfig, openai_endpoint
    from sae_auto_interp.errors import InputError

    if base_url is None and model is None:
        return None
    endpoint = base_url or openai_endpoint()
    if endpoint is None:
        raise InputError("--model needs --base-url (or OPENAI_BASE_URL), or OPENAI_API_KEY for OpenAI's own endpoint")
    return ClientConfig(base_url=endpoint, model=model, max_concurrency=max_concurrency)


def _with_check(path: Path, allow: list[str] | None, skip_check: bool) -> "RunConfig":
    """The run file, with what the command line says about the check of its autoencoders."""
    from sae_auto_interp.config import load_config, with_preflight

    return with_preflight(load_config(path), allow=allow or (), enabled=False if skip_check else None)


def _stored(run_dir: Path, base_url: str | None, model: str | None, max_concurrency: int) -> "RunConfig":
    """The run file kept in a run directory; an endpoint given now adds the language model to it."""
    from sae_auto_interp.config import ExplainerConfig, load_config
    from sae_auto_interp.errors import RunDirectoryError

    if not (run_dir / "config.yaml").is_file():
        raise RunDirectoryError(
            f"{run_dir} is not a run directory (no config.yaml); make one with `run`, `cache` or `demo`"
        )
    config = load_config(run_dir / "config.yaml")
    client = _client(base_url, model, max_concurrency)
    if client is None:
        return config
    explainers = config.explainers
    if not any(explainer.judge_name == "llm" for explainer in explainers):
        explainers = (ExplainerConfig(name="simple"), *explainers)
    return config.model_copy(update={"client": client, "explainers": explainers})


def _run_all(config: "RunConfig", out: Path) -> None:
    _run(config, out, "score")
    _print_summary(out)
    _write_report(out)


def _run(config: "RunConfig", out: Path, until: Literal["cache", "explain", "score"]) -> None:
    from sae_auto_interp.pipeline.progress import make_progress
    from sae_auto_interp.pipeline.run import run_pipeline

    with make_progress() as progress:
        asyncio.run(run_pipeline(config, out, progress, until))


def _print_summary(run_dir: Path) -> None:
    from sae_auto_interp.report import run_table, summarise

    _console().print(run_table(summarise(run_dir)))


def _console() -> "Console":
    """Standard output, with room for tables where it is no terminal."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=FILE_WIDTH)


def _write_report(run_dir: Path) -> None:
    from sae_auto_interp.report import write_report

    typer.echo(f"report: {write_report(run_dir)}")


if __name__ == "__main__":
    main()
