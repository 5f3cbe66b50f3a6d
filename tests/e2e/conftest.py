"""One cached run that tests of explaining and scoring go on from: caching costs more than all that they do."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.runs import sae_auto_interp, write_run_file

IS_SOAK = bool(os.environ.get("SAE_AUTO_INTERP_SOAK"))
N_FEATURES = 60 if IS_SOAK else 6

PrepareRun = Callable[[Path, str, str], list[str | Path]]


@pytest.fixture(scope="session")
def prepare_run(tmp_path_factory: pytest.TempPathFactory) -> PrepareRun:
    """Put a run directory with its cache into a folder, and give the command that explains and scores there.

    The arguments are the folder, the rest of the run file, and the directory's name; one that is there is gone on with.
    The features are N_FEATURES, and the explainer is `simple`.
    """
    cached = tmp_path_factory.mktemp("cached")
    done = sae_auto_interp("cache", _run_file(cached, ""), "--out", cached / "run")
    assert done.returncode == 0, done.stderr

    def prepare(folder: Path, more: str, out: str) -> list[str | Path]:
        if not (folder / out).exists():
            shutil.copytree(cached / "run", folder / out)
        return ["run", _run_file(folder, more), "--out", folder / out]

    return prepare


def _run_file(folder: Path, more: str) -> Path:
    more = more or "client: {base_url: 'http://127.0.0.1:1/v1', model: none}\n"
    file = write_run_file(folder, "simple", n_tokens=20_000, more=more)
    file.write_text(file.read_text().replace("n_features: 4", f"n_features: {N_FEATURES}"))
    return file
