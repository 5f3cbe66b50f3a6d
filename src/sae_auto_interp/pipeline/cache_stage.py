"""Stage 1: text -> token rows -> activations -> the sparse cache. The only stage that needs torch and the model."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from sae_auto_interp.cache.layout import MANIFEST, write_text
from sae_auto_interp.config import AutoencoderConfig, MadeCoderConfig, resolve_path
from sae_auto_interp.errors import ConfigError
from sae_auto_interp.pipeline.components import ResolvedComponent
from sae_auto_interp.pipeline.preflight_stage import run_preflight
from sae_auto_interp.pipeline.resolved import Inputs, Records, Subject
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.stored_names import StoredNames, named_explainer
from sae_auto_interp.pipeline.token_rows import check_documents, token_rows
from sae_auto_interp.protocols import Progress
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import CacheManifest, TokenRows

Pin: TypeAlias = Callable[[str], str]
"""A reference -> the same with the commit that a hub address means; other references as they are."""


def run_cache_stage(
    inputs: Inputs,
    directory: RunDirectory,
    progress: Progress,
    *,
    records: Records | None = None,
    explainers: Sequence[ResolvedComponent] = (),
    is_for_records: bool = False,
) -> None:
    """Cache every autoencoder of the run; returns at once when that is already done.

    What `records` and `explainers` name is held against the model and its autoencoders before anything is cached.
    `is_for_records`: features are to be explained from this cache by itself, so a text of too few documents is refused.
    """
    done = directory.features / MANIFEST
    if not done.is_file():
        from sae_auto_interp.autoencoders.attach import attached_coder

        model, attached, rows = load_inputs(inputs, directory, progress)
        widths = {name: attached_coder(handle).width for name, handle in attached.items()}
        if records is not None:
            records.chosen(widths)
        _check_stored(explainers, model, widths)
        if is_for_records:
            check_documents(inputs.text, rows)
        run_preflight(inputs.caching, directory, model, attached, rows, progress)
        cache = _feature_cache(inputs, directory, model, attached, progress)
        cache.run(tokens=rows)
        manifests: dict[str, CacheManifest] = cache.save_splits(inputs.caching.cache.n_splits, directory.features)
        _note_masked(manifests, progress)
        write_text(done, json.dumps({"modules": sorted(manifests), "fingerprint": directory.fingerprint()}) + "\n")
    shutil.rmtree(directory.unfinished, ignore_errors=True)


def _check_stored(explainers: Sequence[ResolvedComponent], model: Any, widths: Mapping[str, int]) -> None:
    """Raise `InputError` for explanations by others that can be of no feature of the run, before anything is cached."""
    names = StoredNames(widths, lambda: model)
    for explainer in explainers:
        if explainer.name == "stored":
            named_explainer(explainer.build({}), names)


def _note_masked(manifests: Mapping[str, CacheManifest], progress: Progress) -> None:
    for path, manifest in manifests.items():
        mask = manifest.norm_mask
        if mask is not None:
            progress.note(
                f"{path}: {mask.n_positions:,} positions with a norm above {mask.max_norm_multiple:g} times the median "
                f"of {mask.median_norm:.4g} are left out"
            )


def load_inputs(inputs: Inputs, directory: RunDirectory, progress: Progress) -> tuple[Any, dict[str, Any], TokenRows]:
    """The subject model, {module path: submodule with its autoencoder}, and the rows, which `directory` keeps."""
    progress.note("loading the subject model and its autoencoders")
    warning = positions_warning(inputs.subject, inputs.text.data.ctx_len, directory.pinned)
    if warning is not None:
        progress.note(warning)
    model, attached = load_subject(inputs.subject, directory.pinned)
    policies, assumed = bos_policies(attached), assumed_bos(attached)
    return model, attached, token_rows(inputs.text, directory, model.tokenizer, policies, progress, assumed)


def load_subject(subject: Subject, pin: Pin = str) -> tuple[Any, dict[str, Any]]:
    """The run's subject model, and {module path: submodule with its autoencoder}."""
    model = load_model(subject, pin)
    attached: dict[str, Any] = {}
    for autoencoder in subject.autoencoders:
        add_attached(attached, subject, autoencoder, model, pin)
    return model, attached


def load_model(subject: Subject, pin: Pin = str) -> Any:
    """The run's subject model; `pin` gives the commit of an address on the hub, which a plain hub id is too."""
    from sae_auto_interp.models.subject import load_subject_model

    return load_subject_model(_model_reference(subject, pin), subject.device, subject.dtype)


def positions_warning(subject: Subject, ctx_len: int, pin: Pin = str) -> str | None:
    """A warning where rows of `ctx_len` tokens go beyond what the model was trained for; None where they do not.

    Reads the model's settings alone, so that it is known before anything is loaded. Raises `InputError` where the model
    has no such positions.
    """
    from sae_auto_interp.model_loading.positions import beyond_positions
    from sae_auto_interp.models.subject import subject_positions

    limit = subject_positions(_model_reference(subject, pin))
    return beyond_positions(limit, ctx_len, "data.ctx_len")


def _model_reference(subject: Subject, pin: Pin) -> str:
    from sae_auto_interp.models.hub import model_address

    return pin(model_address(resolve_path(subject.model)))


def add_attached(
    attached: dict[str, Any],
    subject: Subject,
    autoencoder: AutoencoderConfig | MadeCoderConfig,
    model: Any,
    pin: Pin = str,
) -> None:
    """Attach one entry of the run file, and add it to those that are attached."""
    places = [i for i, other in enumerate(subject.autoencoders) if other == autoencoder]
    if len(places) > 1:
        raise ConfigError(
            f"autoencoders[{places[1]}] is the same as autoencoders[{places[0]}] ({autoencoder.label}); delete one"
        )
    attached |= _attach(subject, autoencoder, model, pin, attached)


def bos_policies(attached: dict[str, Any]) -> dict[str, bool]:
    """Return, for each autoencoder that cares, whether it was trained on rows that begin with BOS."""
    from sae_auto_interp.autoencoders.attach import attached_coder

    wanted = {path: attached_coder(handle).settings.prepend_bos for path, handle in attached.items()}
    return {path: bos for path, bos in wanted.items() if bos is not None}


def assumed_bos(attached: dict[str, Any]) -> frozenset[str]:
    """The autoencoders of which nothing says whether they were trained with BOS: theirs is a rule of the family."""
    from sae_auto_interp.autoencoders.attach import attached_coder

    return frozenset(path for path, handle in attached.items() if not attached_coder(handle).settings.bos_is_recorded)


def _attach(
    subject: Subject,
    autoencoder: AutoencoderConfig | MadeCoderConfig,
    model: Any,
    pin: Pin,
    beside: Mapping[str, Any],
) -> dict[str, Any]:
    """Load an entry of the run file, or make it; what is drawn depends on the seed and the entry's places alone."""
    from sae_auto_interp.autoencoders import load_autoencoders
    from sae_auto_interp.autoencoders.attach import attach
    from sae_auto_interp.autoencoders.neurons import neuron_coders
    from sae_auto_interp.autoencoders.options import options_of
    from sae_auto_interp.autoencoders.random_weights import random_coders

    if isinstance(autoencoder, AutoencoderConfig):
        ref = pin(resolve_path(autoencoder.path))
        options = options_of(autoencoder.options, f"autoencoders[{subject.autoencoders.index(autoencoder)}]")
        return load_autoencoders(model, ref, autoencoder.module_paths, options=options, beside=beside)
    rng = derived_rng(subject.seed, f"autoencoders.{autoencoder.label}")
    paths, k = autoencoder.module_paths, autoencoder.k
    if autoencoder.width is not None:
        return attach(model, random_coders(model, paths, autoencoder.width, rng, k=k), beside=beside)
    rotation = rng if autoencoder.rotated else None
    coders = neuron_coders(model, paths, k=k, threshold=autoencoder.threshold, rotation=rotation)
    return attach(model, coders, beside=beside)


def _feature_cache(
    inputs: Inputs, directory: RunDirectory, model: Any, attached: dict[str, Any], progress: Progress
) -> Any:
    from sae_auto_interp.features import CacheOptions, FeatureCache

    settings = inputs.caching.cache
    options = CacheOptions(
        activation_dtype=settings.activation_dtype, buffer_mib=settings.buffer_mib,
        work_dir=directory.unfinished, data_name=inputs.text.data.source, backend=settings.backend,
        max_norm_multiple=settings.max_norm_multiple, median_norms=settings.median_norms,
    )  # fmt: skip
    return FeatureCache(model, attached, settings.batch_size, options=options, progress=progress)
