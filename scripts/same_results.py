"""Run another commit and this checkout on the same inputs, and compare what they store.

    .venv-test/bin/python scripts/same_results.py BASE [--keep FOLDER]

BASE is a commit. It is checked out beside, and run with this environment. Two runs are compared: the demo with six
features, and every scorer on four features with a scripted language model (tests/e2e/test_same_bytes.py). Then this
checkout goes on with a run that BASE had cached. Compared byte by byte: the cache and the other stored arrays, the rows
of results.sqlite, report.json, features.jsonl and scores.tsv. Exit status 1: something differs. `--keep`: the runs stay
there.
"""

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.e2e.test_same_bytes import RUN_FILE, TWO  # noqa: E402 - the package's own tests are no installed package
from tests.support.every_model import respond  # noqa: E402
from tests.support.llm_server import LlmServer  # noqa: E402

TABLES = ("records", "explanations", "scores", "failures", "finished")
ARRAYS = ("*.safetensors", "*.npy")
OF_THE_MAKER = ("version", "python", "client_capabilities")
REPORTS = ("report.json", "features.jsonl", "scores.tsv")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.keep or Path(name)
        checkout = Path(name) / "base"
        subprocess.run(["git", "worktree", "add", "-q", "--detach", checkout, arguments.base], cwd=ROOT, check=True)
        try:
            return compare(folder, checkout)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", checkout], cwd=ROOT, check=True)


def compare(folder: Path, base: Path) -> int:
    differences: list[str] = []
    with LlmServer(respond) as server:
        embedder = f"{{name: openai, base_url: {server.base_url}, model: small}}"
        whole = RUN_FILE.format(
            url=server.base_url, embedder=embedder, autoencoders=TWO, batch_size=16, workers=0, limit=16
        )
        jobs = {"demo": ["demo", "--features", "6"], "every scorer": ["run", "run.yaml"]}
        for job, arguments in jobs.items():
            for checkout in (base, ROOT):
                place = folder / job.replace(" ", "_") / ("base" if checkout == base else "here")
                place.mkdir(parents=True)
                (place / "run.yaml").write_text(whole)
                run(checkout, place, *arguments, "--out", "run")
            differences += differing(place.parent / "base" / "run", place.parent / "here" / "run", job)
        begun = folder / "gone_on_with" / "here"
        begun.mkdir(parents=True)
        (begun / "run.yaml").write_text(whole)
        run(base, begun, "cache", "run.yaml", "--out", "run")
        run(ROOT, begun, "run", "run.yaml", "--out", "run")
        differences += differing(folder / "every_scorer" / "base" / "run", begun / "run", "begun by the base")
    print("\n".join(differences) or f"the same: {', '.join([*jobs, 'a run that the base began'])}")
    return bool(differences)


def run(checkout: Path, place: Path, *arguments: str) -> None:
    variables = os.environ | {
        "PYTHONPATH": str(checkout / "src"), "HF_HUB_OFFLINE": "1", "SAE_AUTO_INTERP_CACHE": str(place / "cache"),
    }  # fmt: skip
    command = [sys.executable, "-m", "sae_auto_interp.cli", *arguments]
    done = subprocess.run(command, cwd=place, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{checkout}: {' '.join(arguments)}: exit status {done.returncode}\n{done.stderr}")


def differing(one: Path, other: Path, job: str) -> list[str]:
    before, after = stored(one), stored(other)
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return [f"{job}: {name}: {first_difference(before.get(name), after.get(name))}" for name in names]


def stored(run_directory: Path) -> dict[str, Any]:
    files = {path for pattern in ARRAYS for path in run_directory.rglob(pattern)}
    found: dict[str, Any] = {str(path.relative_to(run_directory)): path.read_bytes() for path in sorted(files)}
    with closing(sqlite3.connect(run_directory / "results.sqlite")) as connection:
        for table in TABLES:
            found[table] = sorted(map(repr, connection.execute(f"SELECT * FROM {table}")))
    for name in REPORTS:
        found[name] = without_versions((run_directory / "report" / name).read_text(encoding="utf-8"))
    return found


def without_versions(text: str) -> str:
    """A report without the versions of what made it and of what read the replies."""
    if not text.startswith("{\n"):
        return text
    content: dict[str, Any] = json.loads(text)
    kept = {name: value for name, value in content["info"].items() if name not in OF_THE_MAKER}
    content["info"] = {name: value for name, value in kept.items() if not name.startswith("reader of ")}
    return json.dumps(content, indent=1)


def first_difference(before: object, after: object) -> str:
    if before is None or after is None:
        return "only in one of them"
    if isinstance(before, list) and isinstance(after, list):
        changed = [pair for pair in zip(before, after, strict=False) if pair[0] != pair[1]]
        return f"{len(before)} and {len(after)} rows, {len(changed)} differ" + "".join(
            f"\n    {near_difference(str(a), str(b))}" for a, b in changed[:1]
        )
    return near_difference(str(before), str(after))


def near_difference(a: str, b: str) -> str:
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return f"{a[max(0, at - 80) : at + 80]!r} <> {b[max(0, at - 80) : at + 80]!r}"


if __name__ == "__main__":
    sys.exit(main())
