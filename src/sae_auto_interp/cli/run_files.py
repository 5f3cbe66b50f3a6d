"""Commands about run files: config, plan."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sae_auto_interp.cli.app import BaseUrl, Concurrency, ConfigFile, Model, app, print_plan


@app.command()
def config(
    path: Annotated[
        Path | None, typer.Argument(help="Run file (YAML) to show with its defaults.", metavar="[CONFIG.yaml]")
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="Show a preset: paper, delphi, saebench, quick.")
    ] = None,
    components: Annotated[
        bool, typer.Option("--components", help="List explainers, scorers and judges with their settings.")
    ] = False,
) -> None:
    """Print a run file with every setting, its default and what it means."""
    from sae_auto_interp.config import load_config
    from sae_auto_interp.config.presets import load_preset
    from sae_auto_interp.errors import InputError
    from sae_auto_interp.pipeline.commands.config_file import commented_run_file, component_settings

    if path is not None and preset is not None:
        raise InputError("config: give a run file or --preset, not both (a run file names its preset itself)")
    if components:
        typer.echo(component_settings(), nl=False)
        return
    content: dict[str, Any] = {}
    if path is not None:
        content = load_config(path).model_dump(mode="json")
    elif preset is not None:
        content = load_preset(preset)
    typer.echo(commented_run_file(content), nl=False)


@app.command()
def plan(
    path: ConfigFile,
    out: Annotated[
        Path | None, typer.Option("--out", help="Run directory whose cache, if finished, gives the examples.")
    ] = None,
    characters_per_token: Annotated[
        float | None,
        typer.Option("--characters-per-token", min=0.5, help="Characters per token; replaces the estimate."),
    ] = None,
    seconds_per_answer: Annotated[
        float | None, typer.Option("--seconds-per-answer", min=0.001, help="Seconds per answer of the model [1].")
    ] = None,
    prompt_price: Annotated[
        float | None, typer.Option("--prompt-price", min=0, help="USD per million prompt tokens [the run file's].")
    ] = None,
    completion_price: Annotated[
        float | None,
        typer.Option("--completion-price", min=0, help="The same of completion tokens."),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Load the model and its autoencoders, and count what fires and what it takes."),
    ] = False,
    base_url: BaseUrl = None,
    model: Model = None,
    max_concurrency: Concurrency = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Say what a run will take before anything is spent: requests, tokens, price, time, memory, disk. Asks no model."""
    from sae_auto_interp.config import load_config
    from sae_auto_interp.pipeline.clients.named_endpoint import with_named_client
    from sae_auto_interp.pipeline.planning.plan import Assumptions

    given = {
        "characters_per_token": characters_per_token,
        "seconds_per_answer": seconds_per_answer,
        "usd_per_million_prompt_tokens": prompt_price,
        "usd_per_million_completion_tokens": completion_price,
    }
    assumed = Assumptions(**{name: value for name, value in given.items() if value is not None})
    config = with_named_client(load_config(path), base_url, model, max_concurrency)
    print_plan(config, out, assumed, measure=measure, as_json=as_json)
