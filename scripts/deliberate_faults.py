"""Put a deliberate fault into one module after the other, and run the tests that should notice.

    .venv-test/bin/python scripts/deliberate_faults.py [MODULE ...]

Each of thirty faults is a mistake that a programmer may make: a bound off by one, a condition turned round, a dropped
escape. The fault is made in a copy of src/, and the tests run with that copy in front of the installed package. Exit
status 1: a fault was not caught, or its line is not in the module any more.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "sae_auto_interp"
FAULTS: list[tuple[str, str, str, str]] = [
    (
        "autoencoders/encoding/cpu_selection.py",
        "np.partition(maxima, place, axis=1)",
        "np.partition(-maxima, place, axis=1)",
        "autoencoders/test_selection.py",
    ),
    ("autoencoders/families/openai.py", '("TopK", "ReLU")', '("TopK",)', "autoencoders"),
    (
        "autoencoders/settings.py",
        "return mean, (x - mean).std(-1, keepdim=True)",
        "return mean, (x - mean).std(-1, keepdim=True, correction=0)",
        "autoencoders",
    ),
    ("cache/layout.py", "lasts = [first - 1 for", "lasts = [first for", "cache"),
    ("cache/merge.py", "source.counts(first, last + 1)", "source.counts(first, last)", "cache"),
    (
        "clients/http/redaction.py",
        "REDACTED if first >= start",
        "REDACTED if first > start",
        "clients/test_redaction.py",
    ),
    (
        "clients/wrappers/budget.py",
        "spent.usd + self._reserved_usd + bound.usd",
        "spent.usd + bound.usd",
        "clients/test_billing.py clients/test_uncounted.py clients",
    ),
    (
        "clients/wrappers/circuit.py",
        "self.n_failures < self.n_unlikely",
        "self.n_failures <= self.n_unlikely",
        "clients/test_breaker.py",
    ),
    (
        "clients/wrappers/rate_limit.py",
        "(now - self._at) * self._per_second",
        "self._per_second",
        "clients/test_pace.py",
    ),
    ("clients/wrappers/retry.py", "2.0**doublings", "2.0 * doublings", "clients/test_retry.py"),
    (
        "config/__init__.py",
        "seed: int = Field(default=0, ge=0)",
        "seed: int = Field(default=0)",
        "test_config.py e2e/test_bad_input.py",
    ),
    ("data/rows.py", "if begin == 0 or len(piece) >= least", "if len(piece) >= least", "data"),
    (
        "explainers/_asking.py",
        "key=lambda example: -example.max_activation",
        "key=lambda example: example.max_activation",
        "explainers",
    ),
    ("features/grid.py", 'locations, side="right") - 1', 'locations, side="left") - 1', "features"),
    ("features/near_duplicates.py", "len(tokens) - length + 1)", "len(tokens) - length)", "features"),
    (
        "features/pools.py",
        "rng.random(n_documents) < train_fraction",
        "rng.random(n_documents) > train_fraction",
        "features/test_splits.py features",
    ),
    (
        "features/samplers.py",
        'ends.searchsorted(indices, side="right")',
        'ends.searchsorted(indices, side="left")',
        "features",
    ),
    ("judges/_verdict_lists.py", '"yes": True, "no": False', '"yes": True, "no": True', "judges prompting"),
    (
        "metrics/classification.py",
        "None if trial.failure is not None else trial.prediction",
        "trial.prediction or False",
        "metrics",
    ),
    ("metrics/intervals.py", "1.0 if successes == n else float(special", "float(special", "metrics"),
    ("metrics/significance.py", "comb(n, k) for k in range(won,", "comb(n, k) for k in range(won + 1,", "metrics"),
    (
        "pipeline/reading_anew.py",
        "known.get(_key(component)) != version",
        "known.get(_key(component)) == version",
        "pipeline/test_reading_anew.py",
    ),
    ("pipeline/units.py", "failure.kind in RETRYABLE_KINDS", "failure.kind not in RETRYABLE_KINDS", "pipeline"),
    (
        "preflight/check.py",
        "ctx_len > claims.ctx_len",
        "ctx_len < claims.ctx_len",
        "pipeline/test_preflight.py pipeline",
    ),
    (
        "prompting/highlights.py",
        "activations >= least if inclusive",
        "activations > least if inclusive",
        "test_highlights.py scorers",
    ),
    (
        "prompting/json_in_text.py",
        "code is not None and 0xD800 <= code",
        "code is not None and 0xD900 <= code",
        "prompting",
    ),
    ("report/pages/html.py", "autoescape=True", "autoescape=False", "report"),
    ("results/migrations.py", "if version > len(MIGRATIONS)", "if version > len(MIGRATIONS) + 1", "results"),
    ("scorers/_questions.py", "middle = (len(batch) + 1) // 2", "middle = len(batch) - 1", "scorers"),
    ("seeds.py", "feature.index]", "0]", "features scorers"),
]
"""Module, its text, the same with a fault, and the tests below tests/ that are run; of these the first that fails."""


def main() -> int:
    wanted = sys.argv[1:]
    unknown = set(wanted) - {module for module, *_ in FAULTS}
    if unknown:
        known = ", ".join(module for module, *_ in FAULTS)
        print(f"no fault for {', '.join(sorted(unknown))}; there are: {known}", file=sys.stderr)
        return 2
    faults = [fault for fault in FAULTS if not wanted or fault[0] in wanted]
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        missed = [module for module, *fault in faults if not is_caught(source, module, *fault)]
    print("\n".join([f"{len(faults) - len(missed)} of {len(faults)} caught", *(f"NOT CAUGHT: {m}" for m in missed)]))
    return bool(missed)


def is_caught(source: Path, module: str, text: str, fault: str, tests: str) -> bool:
    file = source / PACKAGE / module
    sound = file.read_text(encoding="utf-8")
    if sound.count(text) != 1:
        print(f"{module}: {text!r} stands there {sound.count(text)} times; it must be once", flush=True)
        return False
    file.write_text(sound.replace(text, fault), encoding="utf-8")
    try:
        failed = first_failure(source, tests.split())
    finally:
        file.write_text(sound, encoding="utf-8")
    print(f"{module}: {'caught by ' + failed if failed else 'NOT CAUGHT'}", flush=True)
    return failed is not None


def first_failure(source: Path, tests: Sequence[str]) -> str | None:
    """The first test that fails with the package in `source`; None where all pass."""
    variables = os.environ | {"PYTHONPATH": str(source), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider"]
    places = [f"tests/{each}" for each in tests]
    done = subprocess.run([*command, *places], cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return found.group(1) if found else f"status {done.returncode}: {done.stdout[-300:]}"


if __name__ == "__main__":
    sys.exit(main())
