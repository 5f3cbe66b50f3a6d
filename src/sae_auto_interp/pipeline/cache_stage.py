"""Stage 1: text -> token rows -> activations -> the sparse cache. The only stage that needs torch and the model."""

import json
import shutil
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from sae_auto_interp.cache.layout import MANIFEST, write_text
from sae_auto_interp.config import AutoencoderConfig, MadeCoderConfig, RunConfig, resolve_path
from sae_auto_interp.errors import ConfigError
from sae_auto_interp.pipeline.preflight_stage import run_preflight
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.token_rows import token_rows
from sae_auto_interp.protocols import Progress
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import CacheManifest, TokenRows

Pin: TypeAlias = Callable[[str], str]
"""A reference -> the same with the commit that a hub address means; other references as they are."""


def run_cache_stage(config: RunConfig, directory: RunDirectory, progress: Progress) -> None:
    """Cache every autoencoder of the run; returns at once when that is already done."""
    done = directory.features / MANIFEST
    if not done.is_file():
        model, attached, rows = load_inputs(config, directory, progress)
        run_preflight(config, directory, model, attached, rows, progress)
        cache = _feature_cache(config, directory, model, attached, progress)
        cache.run(tokens=rows)
        manifests: dict[str, CacheManifest] = cache.save_splits(config.cache.n_splits, directory.features)
        _note_masked(manifests, progress)
        write_text(done, json.dumps({"modules": sorted(manifests), "fingerprint": directory.fingerprint()}) + "\n")
    shutil.rmtree(directory.unfinished, ignore_errors=True)


def _note_masked(manifests: Mapping[str, CacheManifest], progress: Progress) -> None:
    for path, manifest in manifests.items():
        mask = manifest.norm_mask
        if mask is not None:
            progress.note(
                f"{path}: {mask.n_positions:,} positions with a norm above {mask.max_norm_multiple:g} times the median "
                f"of {mask.median_norm:.4g} are left out"
            )


def load_inputs(
    config: RunConfig, directory: RunDirectory, progress: Progress
) -> tuple[Any, dict[str, Any], TokenRows]:
    """The subject model, {module path: submodule with its autoencoder}, and the rows, which `directory` keeps."""
    progress.note("loading the subject model and its autoencoders")
    model = load_model(config, directory.pinned)
    attached: dict[str, Any] = {}
    for autoencoder in config.autoencoders:
        add_attached(attached, config, autoencoder, model, directory.pinned)
    return model, attached, token_rows(config, directory, model.tokenizer, bos_policies(attached), progress)


def load_model(config: RunConfig, pin: Pin = str) -> Any:
    """The run's subject model; `pin` gives the commit of an address on the hub, which a plain hub id is too."""
    from sae_auto_interp.models.hub import model_address
    from sae_auto_interp.models.subject import load_subject_model

    return load_subject_model(pin(model_address(resolve_path(config.model))), config.device, config.dtype)


def add_attached(
    attached: dict[str, Any],
    config: RunConfig,
    autoencoder: AutoencoderConfig | MadeCoderConfig,
    model: Any,
    pin: Pin = str,
) -> None:
    """Attach one entry of the run file, and add it to those that are attached."""
    found = _attach(config, autoencoder, model, pin)
    twice = sorted(set(found) & set(attached))
    if twice:
        raise ConfigError(f"two autoencoders are attached at {twice[0]}; choose among them with module_paths")
    attached |= found


def bos_policies(attached: dict[str, Any]) -> dict[str, bool]:
    """Of each autoencoder that cares: whether it was trained on rows that begin with BOS."""
    from sae_auto_interp.autoencoders.attach import attached_coder

    wanted = {path: attached_coder(handle).settings.prepend_bos for path, handle in attached.items()}
    return {path: bos for path, bos in wanted.items() if bos is not None}


def _attach(
    config: RunConfig, autoencoder: AutoencoderConfig | MadeCoderConfig, model: Any, pin: Pin
) -> dict[str, Any]:
    """Load an entry of the run file, or make it; what is drawn depends on the seed and the entry's places alone."""
    from sae_auto_interp.autoencoders import load_autoencoders
    from sae_auto_interp.autoencoders.attach import attach
    from sae_auto_interp.autoencoders.neurons import neuron_coders
    from sae_auto_interp.autoencoders.random_weights import random_coders

    if isinstance(autoencoder, AutoencoderConfig):
        ref = pin(resolve_path(autoencoder.path))
        return load_autoencoders(model, ref, autoencoder.module_paths, site=autoencoder.site)
    rng = derived_rng(config.seed, f"autoencoders.{autoencoder.label}")
    paths, k = autoencoder.module_paths, autoencoder.k
    if autoencoder.width is not None:
        return attach(model, random_coders(model, paths, autoencoder.width, rng, k=k))
    rotation = rng if autoencoder.rotated else None
    return attach(model, neuron_coders(model, paths, k=k, threshold=autoencoder.threshold, rotation=rotation))


def _feature_cache(
    config: RunConfig, directory: RunDirectory, model: Any, attached: dict[str, Any], progress: Progress
) -> Any:
    from sae_auto_interp.features import CacheOptions, FeatureCache

    options = CacheOptions(
        activation_dtype=config.cache.activation_dtype, buffer_mib=config.cache.buffer_mib,
        work_dir=directory.unfinished, data_name=config.data.source, backend=config.cache.backend,
        max_norm_multiple=config.cache.max_norm_multiple, median_norms=config.cache.median_norms,
    )  # fmt: skip
    return FeatureCache(model, attached, config.cache.batch_size, options=options, progress=progress)
