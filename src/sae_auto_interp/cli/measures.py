"""Commands that measure and store nothing: check, calibrate, loss-recovered, compare, power."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from sae_auto_interp.cli.app import Allow, BaseUrl, Concurrency, ConfigFile, Model, app, console


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
    from sae_auto_interp.pipeline.commands.check import check_config, run_check
    from sae_auto_interp.pipeline.preflight_stage import raise_refused
    from sae_auto_interp.pipeline.progress.displays import make_progress
    from sae_auto_interp.pipeline.resolved import resolve_inputs

    wanted = check_config(config, model, autoencoders, text, n_tokens, allow)
    with make_progress() as progress:
        found = run_check(resolve_inputs(wanted), progress)
    if as_json:
        typer.echo(json.dumps([each.as_json() for each in found], indent=2))
    else:
        from sae_auto_interp.report import preflight_table

        console().print(preflight_table(found))
    raise_refused(found)


@app.command()
def calibrate(
    config: Annotated[
        Path | None, typer.Argument(help="Run file (YAML) whose judge is meant.", metavar="[CONFIG.yaml]")
    ] = None,
    base_url: BaseUrl = None,
    model: Model = None,
    max_concurrency: Concurrency = None,
    n_examples: Annotated[
        int, typer.Option("--n-examples", help="Firing windows per feature, and as many silent ones: 2 to 20.")
    ] = 10,
    n_shown: Annotated[int, typer.Option("--n-shown", min=1, help="Windows per prompt, as in the run.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure a language model as judge on planted features: sensitivity, specificity, failures and cost.

    The features' exact meaning is known, so every wrong verdict is the model's. About 200 requests; stores nothing.
    """
    from sae_auto_interp.config import load_config
    from sae_auto_interp.errors import InputError, NothingCameError
    from sae_auto_interp.pipeline.clients.named_endpoint import named_client
    from sae_auto_interp.pipeline.commands.calibrate import CalibrationOptions, run_calibration, without_verdicts
    from sae_auto_interp.pipeline.progress.displays import make_progress
    from sae_auto_interp.report.tables.calibration import judge_json, judge_reports, judge_table

    of_file = None if config is None else load_config(config).for_scoring
    client = named_client(of_file, base_url, model, max_concurrency)
    if client is None:
        raise InputError("calibrate needs a language model; give --base-url and --model, or a run file with a client")
    options = CalibrationOptions(n_examples=n_examples, n_shown=n_shown, seed=seed)
    with make_progress() as progress:
        conditions = asyncio.run(run_calibration(client, options, progress))
    reports = judge_reports(conditions)
    name = client.model or client.base_url or client.kind
    if as_json:
        typer.echo(judge_json(reports, name))
    else:
        console().print(judge_table(reports, name))
    nothing = without_verdicts(conditions)
    if nothing:
        raise NothingCameError(nothing, "nothing is stored")


@app.command()
def loss_recovered(
    config: ConfigFile,
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
    from sae_auto_interp.pipeline.commands.loss_recovered import run_loss_recovered
    from sae_auto_interp.pipeline.progress.displays import make_progress
    from sae_auto_interp.pipeline.resolved import resolve_inputs
    from sae_auto_interp.report.tables.losses import losses_json, losses_table

    inputs = resolve_inputs(load_config(config))
    with make_progress() as progress:
        estimates = run_loss_recovered(inputs, progress, n_tokens)
    if as_json:
        typer.echo(losses_json(estimates))
    else:
        console().print(losses_table(estimates))


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(help="Run directory.", show_default=False)],
    run_b: Annotated[Path, typer.Argument(help="Run directory over the same features.", show_default=False)],
    metric: Annotated[
        str,
        typer.Option("--metric", help="balanced_accuracy, tpr, tnr, precision, f1, mcc, auroc, ev_correlation, ..."),
    ] = "balanced_accuracy",
    across_models: Annotated[
        bool, typer.Option("--across-models", help="Pair features by index even if models or autoencoders differ.")
    ] = False,
) -> None:
    """Compare two runs feature by feature: difference with interval, effect size, p-value. Calls no model."""
    from sae_auto_interp.report import compare_runs, comparison_table

    found = compare_runs(run_a, run_b, metric, across_models=across_models)
    console().print(comparison_table(found, str(run_a), str(run_b)))


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

    console().print(power_tables(difference, n, sd, power, alpha))
