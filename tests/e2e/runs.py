"""Small runs of the real command on the embedded assets, each in a process of its own that need not import anew."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.support.warm import WarmCall

RUN_FILE = """
model: embedded:language_model
device: cpu
autoencoders: [{autoencoders}]
data: {{n_tokens: {n_tokens}, ctx_len: 128, max_chars_per_document: 3000}}
cache: {{batch_size: 16, buffer_mib: 1}}
preflight: {{enabled: {checked}}}
features: {{n_features: 4, n_train: 12, n_test: 10, n_non_activating_train: 20, n_non_activating_test: 10}}
explainers: [{explainers}]
"""


def write_run_file(
    folder: Path,
    explainers: str = "lexical",
    autoencoders: str = "embedded:sparse_coders/openai",
    n_tokens: int = 10_000,
    more: str = "",
    *,
    checked: bool = False,
) -> Path:
    """A run file in `folder`; `checked`: with the preflight, which takes as long as all else."""
    path = folder / "run.yaml"
    settings = {"explainers": explainers, "autoencoders": autoencoders, "n_tokens": n_tokens}
    path.write_text(RUN_FILE.format(**settings, checked=str(checked).lower()) + more)
    return path


def sae_auto_interp(
    *arguments: str | Path, largest_file: int | None = None, more_environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command; no file that it writes may grow beyond `largest_file` bytes, as if the disk were full."""
    variables = {**environment(), **(more_environment or {})}
    if largest_file is None:
        with WarmCall(arguments, variables) as call:
            out, err = call.communicate(timeout=280)
            return subprocess.CompletedProcess(["sae-auto-interp", *map(str, arguments)], call.wait(), out, err)
    limited = ["bash", "-c", f'ulimit -f {largest_file // 1024}; exec "$@"', "limited", *command(*arguments)]
    return subprocess.run(limited, capture_output=True, text=True, timeout=280, env=variables)


def command(*arguments: str | Path) -> list[str]:
    """The command in a process that imports everything anew: for what a warm call cannot show."""
    return [sys.executable, "-m", "sae_auto_interp.cli", *map(str, arguments)]


def environment() -> dict[str, str]:
    return os.environ | {"COLUMNS": "160", "PYTHONUNBUFFERED": "1"}


def stopped_at(marker: str, how: signal.Signals, *arguments: str | Path, delay_seconds: float = 0.0) -> tuple[int, str]:
    """Start a run and send it a signal once a line of its progress holds `marker`; its status and what it said."""
    with WarmCall(arguments, environment()) as call:
        said: list[str] = []
        for line in call.stderr:
            said.append(line)
            if marker in line:
                time.sleep(delay_seconds)
                call.send_signal(how)
                break
        _, rest = call.communicate(timeout=120)
        return call.wait(), "".join(said) + rest
