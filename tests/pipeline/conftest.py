"""The demo's cache, made once for all tests that read it."""

import pytest

from sae_auto_interp.pipeline.cache_stage import run_cache_stage
from sae_auto_interp.pipeline.commands.demo import demo_config
from sae_auto_interp.pipeline.resolved import resolve_inputs
from sae_auto_interp.pipeline.run_directory import RunDirectory, evidence_settings


class Silence:
    """Progress that says nothing."""

    def note(self, text: str) -> None: ...

    def start(self, stage: str, total: int, done: int, unit: str) -> None: ...

    def advance(self, n: int = 1, failed: int = 0) -> None: ...

    def finish(self) -> None: ...


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The embedded model and its three autoencoders over a fifth of the demo's text, cached."""
    config = demo_config(9)
    data = config.data.model_copy(update={"n_tokens": 40_000})
    config = config.model_copy(
        update={"data": data, "preflight": config.preflight.model_copy(update={"enabled": False})}
    )
    directory = RunDirectory(tmp_path_factory.mktemp("demo"))
    directory.claim(evidence_settings(config))
    directory.save_config(config)
    run_cache_stage(resolve_inputs(config), directory, Silence())
    return directory
