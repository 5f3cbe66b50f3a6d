"""Importing the package, asking for help, and everything after the cache: without torch."""

import json
import subprocess
import sys
import time

import pytest

HEAVY = {"torch", "transformers", "nnsight", "accelerate"}
OPTIONAL = {
    "scipy",
    "sklearn",
    "xllamacpp",
    "vllm",
    "openai",
    "fastapi",
    "uvicorn",
    "gguf",
    "hypothesis",
    "pytest",
    "beartype",
    "datasets",
    "pyarrow",
    "pandas",
    "sentence_transformers",
}
PROBE = "\nimport json, sys; print('MODULES' + json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
HELP = """
import sys
sys.argv = ["sae-auto-interp", "--help"]
from sae_auto_interp.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""
AFTER_THE_CACHE = (
    "cache",
    "clients",
    "embedders",
    "explainers",
    "features",
    "judges",
    "metrics",
    "report",
    "results",
    "scorers",
)


def modules_after(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code + PROBE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.rpartition("MODULES")[2]))


def seconds_to_run(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not modules_after("import sae_auto_interp") & (HEAVY | OPTIONAL | {"numpy", "pydantic", "rich"})


def test_help_loads_nothing_heavy() -> None:
    assert not modules_after(HELP) & (HEAVY | OPTIONAL)


def test_what_comes_after_the_cache_runs_without_torch() -> None:
    loaded = {folder: modules_after(f"import sae_auto_interp.{folder}") for folder in AFTER_THE_CACHE}
    assert {folder: heavy for folder, modules in loaded.items() if (heavy := modules & (HEAVY | OPTIONAL))} == {}


def test_importing_the_package_takes_less_than_300_milliseconds(capsys: pytest.CaptureFixture[str]) -> None:
    best = min(seconds_to_run("import sae_auto_interp") for _ in range(5))
    bare = min(seconds_to_run("pass") for _ in range(5))
    with capsys.disabled():
        print(f"\nimport sae_auto_interp: {(best - bare) * 1000:.0f} ms beyond the interpreter's {bare * 1000:.0f} ms")
    assert best - bare < 0.3


def test_reading_text_loads_a_package_for_datasets_only_where_there_is_one() -> None:
    modules = modules_after("import sae_auto_interp.data.sources, sae_auto_interp.pipeline.token_rows")
    assert not modules & {"torch", "transformers", "datasets", "pyarrow", "pandas", "huggingface_hub"}
