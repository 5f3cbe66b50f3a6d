"""The check of a run file's autoencoders on its own: no run directory, nothing cached."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sae_auto_interp.config import RunConfig, load_config, parse_config, with_preflight
from sae_auto_interp.errors import InputError, WeightsError
from sae_auto_interp.pipeline.cache_stage import add_attached, assumed_bos, bos_policies, load_model, positions_warning
from sae_auto_interp.pipeline.resolved import Inputs
from sae_auto_interp.pipeline.token_rows import first_rows
from sae_auto_interp.preflight.check import check_attached, unattached
from sae_auto_interp.protocols import Progress
from sae_auto_interp.types.fit import Preflight
from sae_auto_interp.visible_text import counted


def check_config(
    path: Path | None,
    model: str | None,
    autoencoders: Sequence[str] | None,
    text: str | None,
    n_tokens: int | None,
    allow: Sequence[str] | None,
) -> RunConfig:
    """What to check: a run file, or a model and directories of weights; other text and settings where given."""
    if path is not None and (model or autoencoders):
        raise InputError("check: give a run file, or --model and --autoencoders, not both")
    if path is None and not (model and autoencoders):
        raise InputError("check: give a run file, or --model and --autoencoders")
    config = parse_config({"model": model, "autoencoders": autoencoders}) if path is None else load_config(path)
    if text is not None:
        config = config.model_copy(update={"data": config.data.model_copy(update={"source": text})})
    return with_preflight(config, allow=allow or (), n_tokens=n_tokens)


def run_check(inputs: Inputs, progress: Progress) -> tuple[Preflight, ...]:
    """Check the autoencoders of a run file on the rows with which a run would begin, each entry by itself.

    Weights that cannot be read or attached are among the results, not an error.
    """
    progress.note("loading the subject model and its autoencoders")
    subject, text, caching = inputs.subject, inputs.text, inputs.caching
    warning = positions_warning(subject, text.data.ctx_len)
    if warning is not None:
        progress.note(warning)
    model = load_model(subject)
    attached: dict[str, Any] = {}
    unusable: list[Preflight] = []
    for autoencoder in subject.autoencoders:
        try:
            add_attached(attached, subject, autoencoder, model)
        except WeightsError as error:
            unusable.append(unattached(autoencoder.label, error))
    if not attached:
        return tuple(unusable)
    n_tokens = min(caching.preflight.n_tokens, text.data.n_tokens)
    rows = first_rows(text, model.tokenizer, bos_policies(attached), n_tokens, assumed_bos(attached))
    progress.note(
        f"checking {counted(len(attached), 'autoencoder')} on {counted(n_tokens, 'token')} of "
        f"{counted(len(rows.document_names), 'document')}"
    )
    return (*check_attached(model, attached, rows, caching.preflight, caching.cache.backend), *unusable)
