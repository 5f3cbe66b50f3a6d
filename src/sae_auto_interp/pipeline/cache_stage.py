"""Stage 1: text -> token rows -> activations -> the sparse cache. The only stage that needs torch and the model."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sae_auto_interp.cache.layout import MANIFEST, write_text
from sae_auto_interp.config import STANDARD_LIBRARY, RunConfig, resolve_path
from sae_auto_interp.errors import ConfigError
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.protocols import Progress
from sae_auto_interp.types import Document, TokenRows


def run_cache_stage(config: RunConfig, directory: RunDirectory, progress: Progress) -> None:
    """Cache every autoencoder of the run; returns at once when that is already done."""
    done = directory.features / MANIFEST
    if not done.is_file():
        model, attached, rows = load_inputs(config, directory, progress)
        cache = _feature_cache(config, directory, model, attached, progress)
        cache.run(tokens=rows)
        manifests = cache.save_splits(config.cache.n_splits, directory.features)
        write_text(done, json.dumps({"modules": sorted(manifests), "fingerprint": directory.fingerprint()}) + "\n")
    shutil.rmtree(directory.unfinished, ignore_errors=True)


def load_inputs(
    config: RunConfig, directory: RunDirectory, progress: Progress
) -> tuple[Any, dict[str, Any], TokenRows]:
    """The subject model, {module path: submodule with its autoencoder}, and the rows, which `directory` keeps."""
    progress.note("loading the subject model and its autoencoders")
    model, attached = _load(config)
    return model, attached, _token_rows(config, directory, model.tokenizer, _prepend_bos(config, attached))


def _load(config: RunConfig) -> tuple[Any, dict[str, Any]]:
    from sae_auto_interp.autoencoders import load_autoencoders
    from sae_auto_interp.models.subject import load_subject_model

    model = load_subject_model(resolve_path(config.model), config.device, config.dtype)
    attached: dict[str, Any] = {}
    for autoencoder in config.autoencoders:
        found = load_autoencoders(model, resolve_path(autoencoder.path), autoencoder.module_paths)
        twice = sorted(set(found) & set(attached))
        if twice:
            raise ConfigError(f"two autoencoders are attached at {twice[0]}; choose among them with module_paths")
        attached |= found
    return model, attached


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
    from sae_auto_interp.data.rows import build_token_rows

    data = config.data
    rows = build_token_rows(
        _documents(config), tokenizer, ctx_len=data.ctx_len, n_tokens=data.n_tokens, prepend_bos=prepend_bos
    )
    directory.save_tokens(rows)
    return rows


def _documents(config: RunConfig) -> Iterator[Document]:
    from sae_auto_interp.data.files import documents_from
    from sae_auto_interp.data.standard_library import standard_library_documents

    limit = config.data.max_chars_per_document
    if config.data.source == STANDARD_LIBRARY:
        yield from standard_library_documents(limit)
    else:
        for document in documents_from(Path(config.data.source)):
            yield Document(document.name, document.text[:limit])


def _prepend_bos(config: RunConfig, attached: dict[str, Any]) -> bool:
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
