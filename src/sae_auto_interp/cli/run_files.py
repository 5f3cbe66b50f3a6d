"""Commands about run files: config."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sae_auto_interp.cli.app import app


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
    from sae_auto_interp.config import load_config, load_preset
    from sae_auto_interp.errors import InputError
    from sae_auto_interp.pipeline.run_file import commented_run_file, component_settings

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
