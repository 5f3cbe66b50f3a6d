"""Small runs of the real command on the embedded assets, in a process of their own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

RUN_FILE = """
model: embedded:language_model
device: cpu
autoencoders: [{autoencoders}]
data: {{n_tokens: {n_tokens}, ctx_len: 128, max_chars_per_document: 3000}}
cache: {{batch_size: 16, buffer_mib: 1}}
features: {{n_features: 4, n_train: 12, n_test: 10, n_non_activating_train: 20, n_non_activating_test: 10}}
explainers: [{explainers}]
"""


def write_run_file(
    folder: Path,
    explainers: str = "lexical",
    autoencoders: str = "embedded:sparse_coders/openai",
    n_tokens: int = 20_000,
    more: str = "",
) -> Path:
    path = folder / "run.yaml"
    path.write_text(RUN_FILE.format(explainers=explainers, autoencoders=autoencoders, n_tokens=n_tokens) + more)
    return path


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "sae_auto_interp.cli", *map(str, arguments)]


def sae_auto_interp(
    *arguments: str | Path, largest_file: int | None = None, more_environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command; no file that it writes may grow beyond `largest_file` bytes, as if the disk were full."""
    limit = ["bash", "-c", f'ulimit -f {largest_file // 1024}; exec "$@"', "limited"] if largest_file else []
    whole = [*limit, *command(*arguments)]
    variables = {**environment(), **(more_environment or {})}
    return subprocess.run(whole, capture_output=True, text=True, timeout=280, env=variables)


def environment() -> dict[str, str]:
    return os.environ | {"COLUMNS": "160", "PYTHONUNBUFFERED": "1"}


def stopped_at(marker: str, how: signal.Signals, *arguments: str | Path, delay_seconds: float = 0.0) -> tuple[int, str]:
    """Start a run and send it a signal once a line of its progress holds `marker`; its status and what it said."""
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stderr is not None
        said: list[str] = []
        for line in process.stderr:
            said.append(line)
            if marker in line:
                time.sleep(delay_seconds)
                process.send_signal(how)
                break
        said.append(process.stderr.read())
        return process.wait(timeout=120), "".join(said)
