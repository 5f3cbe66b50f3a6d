"""The run's own subject model as an `ActivationReader`: loaded when a text is first read, and read in a thread.

One thread, so that the event loop goes on and the model runs one call at a time.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sae_auto_interp.cache.reader import read_manifest
from sae_auto_interp.config import RunConfig
from sae_auto_interp.pipeline.cache_stage import add_attached, bos_policies, load_model
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.subject.reader import SubjectTexts
from sae_auto_interp.pipeline.token_rows import bos_policy, row_layout
from sae_auto_interp.types import FeatureId, NormMask, TextActivations


class SubjectReader:
    """`ActivationReader` over what `load` returns."""

    def __init__(self, load: Callable[[], SubjectTexts]) -> None:
        self._load = load
        self._texts: SubjectTexts | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="subject-model")

    async def activations(self, texts: Sequence[str], feature: FeatureId) -> list[TextActivations]:
        """One result per text, in order; raises what loading the model does."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, tuple(texts), feature)

    def close(self) -> None:
        """Let the model go. A call under way ends first."""
        self._thread.shutdown()
        self._texts = None

    def _read(self, texts: Sequence[str], feature: FeatureId) -> list[TextActivations]:
        if self._texts is None:
            self._texts = self._load()
        return self._texts.read(texts, feature)


def subject_texts(config: RunConfig, directory: RunDirectory) -> SubjectTexts:
    """The run's model with all of its autoencoders, reading texts as the run's cache was made."""
    model = load_model(config, directory.pinned)
    attached: dict[str, Any] = {}
    for autoencoder in config.autoencoders:
        add_attached(attached, config, autoencoder, model, directory.pinned)
    layout = row_layout(config, bos_policy(config, bos_policies(attached)))
    return SubjectTexts(model, attached, layout, _masks(directory, attached), config.cache.backend)


def _masks(directory: RunDirectory, modules: dict[str, Any]) -> dict[str, NormMask]:
    """The outlier norms that modules were cached with."""
    masks = {path: read_manifest(directory.features / path).norm_mask for path in modules}
    return {path: mask for path, mask in masks.items() if mask is not None}
