"""The application that commands register with, and the options and outputs that several of them share."""

import asyncio
import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sae_auto_interp import __version__
from sae_auto_interp.visible_text import visible

if TYPE_CHECKING:
    from rich.console import Console

    from sae_auto_interp.config import RunConfig
    from sae_auto_interp.pipeline.planning.plan import Assumptions

app = typer.Typer(
    name="sae-auto-interp",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Explain the features of sparse autoencoders in words, and measure how good each explanation is.\n\n"
    "Start with `sae-auto-interp demo`: it needs no key, no GPU and no download.",
)

FILE_WIDTH = 140
"""Columns of a table that goes to a file or a pipe."""

ConfigFile = Annotated[Path, typer.Argument(help="Run file (YAML).", metavar="CONFIG.yaml", show_default=False)]
RunDir = Annotated[Path, typer.Argument(help="Run directory, made by `run`, `cache` or `demo`.", show_default=False)]
OutDir = Annotated[Path, typer.Option("--out", help="Run directory: created if new, resumed if it exists.")]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        help="An OpenAI-compatible endpoint, e.g. http://127.0.0.1:8000/v1, instead of the run file's. Where none is "
        "known, OPENAI_BASE_URL is taken.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model", help="Model at the endpoint, instead of the run file's; may be left out if it serves only one."
    ),
]
Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", help="Let the autoencoders' check pass what it refuses by this name: fvu, l0, model, ..."),
]
SkipCheck = Annotated[bool, typer.Option("--skip-check", help="Cache without checking the autoencoders first.")]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Try again what failed for good, e.g. after a bug or a key is mended.")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print events as JSON lines, for machines, instead of progress and tables.")
]
Concurrency = Annotated[
    int | None,
    typer.Option("--max-concurrency", min=1, help="Requests in flight at most [the run file's, or 16]."),
]


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def console() -> "Console":
    """Standard output, with room for tables where it is no terminal."""
    from sae_auto_interp.pipeline.progress.displays import VisibleConsole

    console = VisibleConsole()
    return console if console.is_terminal or "COLUMNS" in os.environ else VisibleConsole(width=FILE_WIDTH)


def say(lines: Iterable[str]) -> None:
    """Print lines, each as one line whatever is in it."""
    typer.echo("\n".join(map(visible, lines)))


def print_plan(
    config: "RunConfig", out: Path | None, assumed: "Assumptions | None" = None, *, measure: bool, as_json: bool
) -> None:
    """Say what a run of this configuration will take; with `measure`, the model and its autoencoders are loaded."""
    from sae_auto_interp.pipeline.planning.plan import Assumptions, make_plan, plan_lines
    from sae_auto_interp.pipeline.planning.sizes import measured
    from sae_auto_interp.pipeline.progress.displays import make_progress
    from sae_auto_interp.pipeline.resolved import resolve_inputs

    seen = None
    if measure:
        with make_progress() as progress:
            seen = measured(resolve_inputs(config), progress)
    assumed = assumed or Assumptions()
    found = asyncio.run(make_plan(config, out, assumed, seen))
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
    else:
        say(plan_lines(found, assumed))
