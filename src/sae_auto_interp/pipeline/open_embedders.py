"""The embedding models of a run: each is opened once, however many scorers and judges ask for it."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from sae_auto_interp.config import ComponentConfig, fingerprint
from sae_auto_interp.protocols import Embedder

Build: TypeAlias = Callable[[str, ComponentConfig, Mapping[type, Any]], Any]
"""`components.build_component`: (folder, settings, collaborators) -> component."""


class OpenEmbedders:
    """Embedders by their settings; each remembers what it was asked."""

    def __init__(self) -> None:
        self._open: dict[str, Embedder] = {}

    def opened(self, config: ComponentConfig, build: Build) -> Embedder:
        """The embedder of these settings; raises what building it does."""
        from sae_auto_interp.embedders import RememberingEmbedder

        key = fingerprint([config.name, config.settings])
        if key not in self._open:
            self._open[key] = RememberingEmbedder(build("embedders", config, {}))
        return self._open[key]

    async def close(self) -> None:
        for embedder in self._open.values():
            await embedder.close()
