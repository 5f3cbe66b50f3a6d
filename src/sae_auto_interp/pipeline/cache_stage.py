"""Stage 1: text -> token rows -> activations -> the sparse cache. The only stage that needs torch and the model."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sae_auto_interp.cache.layout import MANIFEST, write_text
from sae_auto_interp.config import STANDARD_LIBRARY, AutoencoderConfig, RunConfig, resolve_path
from sae_auto_interp.errors import ConfigError
from sae_auto_interp.pipeline.preflight_stage import run_preflight
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.protocols import Progress
from sae_auto_interp.types import Document, TokenRows


def run_cache_stage(config: RunConfig, directory: RunDirectory, progress: Progress) -> None:
    """Cache every autoencoder of the run; returns at once when that is already done."""
    done = directory.features / MANIFEST
    if not done.is_file():
        progress.note("loading the subject model and its autoencoders")
        model = load_model(config)
        attached = load_attached(config, model)
        rows = _token_rows(config, directory, model.tokenizer, prepend_bos_for(config, attached))
        run_preflight(config, directory, model, attached, rows, progress)
        cache = _feature_cache(config, directory, model, attached, progress)
        cache.run(tokens=rows)
        manifests = cache.save_splits(config.cache.n_splits, directory.features)
        write_text(done, json.dumps({"modules": sorted(manifests), "fingerprint": directory.fingerprint()}) + "\n")
    shutil.rmtree(directory.unfinished, ignore_errors=True)


def load_model(config: RunConfig) -> Any:
    """The run's subject model."""
    from sae_auto_interp.models.subject import load_subject_model

    return load_subject_model(resolve_path(config.model), config.device, config.dtype)


def load_attached(config: RunConfig, model: Any) -> dict[str, Any]:
    """The run's autoencoders, {module path: submodule}."""
    attached: dict[str, Any] = {}
    for autoencoder in config.autoencoders:
        add_attached(attached, autoencoder, model)
    return attached


def add_attached(attached: dict[str, Any], autoencoder: AutoencoderConfig, model: Any) -> None:
    """Attach one entry of the run file, and add it to those that are attached."""
    from sae_auto_interp.autoencoders import load_autoencoders

    path = resolve_path(autoencoder.path)
    found = load_autoencoders(model, path, autoencoder.module_paths, site=autoencoder.site)
    twice = sorted(set(found) & set(attached))
    if twice:
        raise ConfigError(f"two autoencoders are attached at {twice[0]}; choose among them with module_paths")
    attached |= found


def _feature_cache(
    config: RunConfig, directory: RunDirectory, model: Any, attached: dict[str, Any], progress: Progress
) -> Any:
    from sae_auto_interp.features import CacheOptions, FeatureCache

    options = CacheOptions(
        activation_dtype=config.cache.activation_dtype, buffer_mib=config.cache.buffer_mib,
        work_dir=directory.unfinished, data_name=config.data.source, backend=config.cache.backend,
    )  # fmt: skip
    return FeatureCache(model, attached, config.cache.batch_size, options=options, progress=progress)


def _token_rows(config: RunConfig, directory: RunDirectory, tokenizer: Any, prepend_bos: bool) -> TokenRows:
    """The run's rows: made once, then read back, so that a resumed run sees the same text whatever Python runs it."""
    if directory.tokens.is_file():
        return directory.load_tokens()
    rows = new_rows(config, tokenizer, prepend_bos, config.data.n_tokens)
    directory.save_tokens(rows)
    return rows


def new_rows(config: RunConfig, tokenizer: Any, prepend_bos: bool, n_tokens: int) -> TokenRows:
    """The run's first rows, which hold at least `n_tokens` text tokens."""
    from sae_auto_interp.data.rows import build_token_rows

    return build_token_rows(
        _documents(config), tokenizer, ctx_len=config.data.ctx_len, n_tokens=n_tokens, prepend_bos=prepend_bos
    )


def _documents(config: RunConfig) -> Iterator[Document]:
    from sae_auto_interp.data.files import documents_from
    from sae_auto_interp.data.standard_library import standard_library_documents

    limit = config.data.max_chars_per_document
    if config.data.source == STANDARD_LIBRARY:
        yield from standard_library_documents(limit)
    else:
        for document in documents_from(Path(config.data.source)):
            yield Document(document.name, document.text[:limit])


def prepend_bos_for(config: RunConfig, attached: dict[str, Any]) -> bool:
    """What the configuration says, else what the autoencoders were trained with, if they agree."""
    if config.data.prepend_bos is not None:
        return config.data.prepend_bos
    from sae_auto_interp.autoencoders.attach import attached_coder

    policies = {path: attached_coder(handle).settings.prepend_bos for path, handle in attached.items()}
    if len(set(policies.values())) > 1:
        listed = ", ".join(f"{path}: {'with' if bos else 'without'}" for path, bos in policies.items())
        raise ConfigError(
            f"the autoencoders disagree on a BOS token in front ({listed}); set data.prepend_bos, or run them apart"
        )
    return next(iter(policies.values()))
