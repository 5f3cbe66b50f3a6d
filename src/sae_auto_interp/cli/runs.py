"""Commands that make a run, or go on with one: demo, run, cache, explain, score, status, report."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sae_auto_interp.cli.app import (
    Allow,
    AsJson,
    BaseUrl,
    Concurrency,
    ConfigFile,
    Model,
    OutDir,
    RetryFailed,
    RunDir,
    SkipCheck,
    app,
    console,
    print_plan,
    say,
)

if TYPE_CHECKING:
    from sae_auto_interp.config import RunConfig
    from sae_auto_interp.pipeline.progress.ending import Ending


@app.command()
def demo(
    out: OutDir = Path("demo_run"),
    features: Annotated[
        int,
        typer.Option("--features", min=3, help="Features to explain at least, shared evenly by three autoencoders."),
    ] = 60,
    base_url: BaseUrl = None,
    model: Model = None,
    max_concurrency: Concurrency = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    retry_failed: RetryFailed = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say what it will take; loads the models, asks no endpoint.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the whole job on the embedded language model and its autoencoders.

    Without an endpoint, features are explained and scored by token rules (the lexical baseline). With --base-url, or
    OPENAI_BASE_URL set, the language model there explains and judges too; its key is read from OPENAI_API_KEY.
    """
    from sae_auto_interp.pipeline.clients.named_endpoint import named_client
    from sae_auto_interp.pipeline.commands.demo import demo_config

    config = demo_config(features, named_client(None, base_url, model, max_concurrency), seed)
    if plan:
        print_plan(config, out, measure=True, as_json=as_json)
        return
    _run_all(config, out, retry_failed=retry_failed, as_json=as_json)


@app.command()
def run(
    config: ConfigFile,
    out: OutDir = Path("run"),
    base_url: BaseUrl = None,
    model: Model = None,
    max_concurrency: Concurrency = None,
    allow: Allow = None,
    skip_check: SkipCheck = False,
    retry_failed: RetryFailed = False,
    as_json: AsJson = False,
) -> None:
    """Run all stages of a run file: check, cache, explain, score, report."""
    from sae_auto_interp.pipeline.clients.named_endpoint import with_named_client

    wanted = with_named_client(_with_check(config, allow, skip_check), base_url, model, max_concurrency)
    _run_all(wanted, out, retry_failed=retry_failed, as_json=as_json)


@app.command()
def cache(
    config: ConfigFile,
    out: OutDir = Path("run"),
    allow: Allow = None,
    skip_check: SkipCheck = False,
    as_json: AsJson = False,
) -> None:
    """Cache the autoencoders' activations into a run directory; `explain` and `score` go on from there."""
    _run(_with_check(config, allow, skip_check), out, "cache", as_json=as_json)
    if not as_json:
        typer.echo(f"activations are in {out / 'features'}; next: sae-auto-interp explain {out}")


@app.command()
def explain(
    run_dir: RunDir,
    base_url: BaseUrl = None,
    model: Model = None,
    max_concurrency: Concurrency = None,
    retry_failed: RetryFailed = False,
    as_json: AsJson = False,
) -> None:
    """Explain the features of a run directory. With --base-url a language model explains too."""
    config = _stored(run_dir, base_url, model, max_concurrency)
    ending = _run(config, run_dir, "explain", retry_failed=retry_failed, as_json=as_json)
    if not as_json:
        _print_failures(ending)
    _raise_if_nothing_came(ending)
    if not as_json:
        typer.echo(f"next: sae-auto-interp score {run_dir}")


@app.command()
def score(
    run_dir: RunDir,
    base_url: BaseUrl = None,
    model: Model = None,
    max_concurrency: Concurrency = None,
    retry_failed: RetryFailed = False,
    as_json: AsJson = False,
) -> None:
    """Score the explanations of a run directory, and their shuffled controls (explains first what is not explained)."""
    config = _stored(run_dir, base_url, model, max_concurrency)
    ending = _run(config, run_dir, "score", retry_failed=retry_failed, as_json=as_json)
    if not as_json:
        _print_summary(run_dir)
    _raise_if_nothing_came(ending)


@app.command()
def status(
    run_dir: RunDir,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Show how far a run is, what failed and why, while it runs or afterwards. Calls no model."""
    from sae_auto_interp.pipeline.progress.status import read_status, status_lines

    found = read_status(run_dir)
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=2))
    else:
        say(status_lines(found))


@app.command()
def report(
    run_dir: RunDir,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the page and its files; RUN_DIR/report by default.")
    ] = None,
) -> None:
    """Print the table of a run directory; write its HTML page, and its numbers for programs. Calls no model."""
    _report(run_dir, out=out)


def _with_check(path: Path, allow: list[str] | None, skip_check: bool) -> "RunConfig":
    """The run file, with what the command line says about the check of its autoencoders."""
    from sae_auto_interp.config import load_config, with_preflight

    return with_preflight(load_config(path), allow=allow or (), enabled=False if skip_check else None)


def _stored(run_dir: Path, base_url: str | None, model: str | None, max_concurrency: int | None) -> "RunConfig":
    """The run file kept in a run directory; an endpoint given now takes the place of its own."""
    from sae_auto_interp.config import load_config
    from sae_auto_interp.errors import RunDirectoryError
    from sae_auto_interp.pipeline.clients.named_endpoint import with_named_client
    from sae_auto_interp.pipeline.run_directory import RunDirectory

    if not (run_dir / "config.yaml").is_file():
        raise RunDirectoryError(
            f"{run_dir} is not a run directory (no config.yaml); make one with `run`, `cache` or `demo`"
        )
    config = load_config(run_dir / "config.yaml")
    if RunDirectory(run_dir).has_changed_config():
        typer.echo(f"{run_dir / 'config.yaml'} has changed since the last run wrote it; going by it as it is", err=True)
    return with_named_client(config, base_url, model, max_concurrency)


def _run_all(config: "RunConfig", out: Path, *, retry_failed: bool, as_json: bool) -> None:
    ending = _run(config, out, "score", retry_failed=retry_failed, as_json=as_json)
    _report(out, quiet=as_json)
    _raise_if_nothing_came(ending)


def _run(
    config: "RunConfig",
    out: Path,
    until: Literal["cache", "explain", "score"],
    *,
    retry_failed: bool = False,
    as_json: bool = False,
) -> "Ending":
    from sae_auto_interp.pipeline.progress.displays import make_progress
    from sae_auto_interp.pipeline.progress.log_file import logged_to
    from sae_auto_interp.pipeline.run import run_pipeline
    from sae_auto_interp.pipeline.run_directory import RunDirectory
    from sae_auto_interp.pipeline.run_links import refuse_links_outside

    refuse_links_outside(out)
    with logged_to(RunDirectory(out).log), make_progress(events=as_json) as progress:
        ending = asyncio.run(run_pipeline(config, out, progress, until, retry_failed=retry_failed))
        if as_json:  # elsewhere they stand under the table
            for each in ending.failures:
                progress.note(f"failed: {each.line}")
    return ending


def _raise_if_nothing_came(ending: "Ending") -> None:
    """After all that was made has been shown: the exit status is not that of a run that gave what was asked for."""
    from sae_auto_interp.errors import NothingCameError

    if ending.nothing:
        raise NothingCameError(ending.nothing)


def _print_failures(ending: "Ending") -> None:
    from sae_auto_interp.report.display import visible

    for each in ending.failures:
        typer.echo(visible(f"failed: {each.line}"))


def _print_summary(run_dir: Path) -> None:
    from sae_auto_interp.report import run_table, summarise

    console().print(run_table(summarise(run_dir)))


def _report(run_dir: Path, *, quiet: bool = False, out: Path | None = None) -> None:
    from sae_auto_interp.pipeline.run_links import refuse_links_outside
    from sae_auto_interp.report import run_table, summarise, write_report

    if out is None:
        refuse_links_outside(run_dir)

    summary = summarise(run_dir)
    if not quiet:
        console().print(run_table(summary))
    path = write_report(run_dir, summary=summary, out=out)
    if not quiet:
        typer.echo(f"report: {path}")
