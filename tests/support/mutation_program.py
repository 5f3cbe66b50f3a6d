"""Damage files of a run at random and use it, again and again in one process: FOLDER N SEED.

A small run directory is made once. Each time one file of it, or one that it was made from, is damaged, a command is
run on a copy, and it must end with status 0 and the results of the undamaged run, or say in one line what is wrong.
Prints one JSON object: what was tried, how it ended, and each case that ended badly.
"""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sae_auto_interp import cli
from sae_auto_interp.config import load_config, resolve_path
from sae_auto_interp.errors import SaeAutoInterpError
from tests.support.every_model import respond
from tests.support.llm_server import LlmServer
from tests.support.mutating import BYTES, JSON, MANIFEST, Mutator

MOST_SECONDS = 180
RUN_FILE = """
model: {folder}/model
device: cpu
autoencoders: [{folder}/coders]
data: {{n_tokens: 8000, ctx_len: 64, max_chars_per_document: 3000}}
cache: {{batch_size: 16, n_splits: 2}}
preflight: {{n_tokens: 512, allow: [fvu, l0, site]}}
features: {{n_features: 3, n_train: 8, n_test: 8, n_quantiles: 4, min_examples: 16,
  n_non_activating_train: 8, n_non_activating_test: {{random: 4, neighbour: 4}}}}
explainers: [simple, lexical]
scorers: [detection]
responses: {{path: {folder}/responses.sqlite, mode: {mode}}}
client: {{base_url: {url}, model: MODEL, max_concurrency: 4}}
"""
SAID = re.compile(r"damaged|warning|failed|changed since|does not count|did not count|not_stored", re.IGNORECASE)


@dataclass(frozen=True)
class Kind:
    """Files of one kind, how they are damaged, and the commands that use them."""

    pattern: str
    """Below the world's folder; the run directory of the state is `case`."""
    mutators: tuple[Mutator, ...]
    commands: tuple[str, ...]
    state: str = "cached"
    """Which run directory is copied: `cached` with nothing explained yet, or `whole`."""
    weight: int = 1


KINDS = (
    Kind("case/features/*/manifest.json", MANIFEST, ("score", "triage", "neighbours", "convert"), weight=5),
    Kind("case/features/*/statistics.safetensors", BYTES, ("score", "triage", "neighbours"), weight=2),
    Kind("case/features/*/[0-9]*.safetensors", BYTES, ("score", "triage", "neighbours", "convert"), weight=2),
    Kind("case/features/vocabulary.safetensors", BYTES, ("score",)),
    Kind("case/features/manifest.json", JSON, ("score",)),
    Kind("case/tokens.safetensors", BYTES, ("score", "neighbours", "convert"), weight=2),
    Kind("case/data.json", JSON, ("score",)),
    Kind("case/manifest.json", JSON, ("score", "status"), weight=2),
    Kind("case/preflight.json", JSON, ("score",)),
    Kind("case/triage/*.safetensors", BYTES, ("score", "triage"), weight=3),
    Kind("case/config.yaml", BYTES, ("score",), weight=2),
    Kind("case/results.sqlite", BYTES, ("score", "status", "report"), "whole", weight=6),
    Kind("case/progress.json", JSON, ("status",), "whole"),
    Kind("responses.sqlite", BYTES, ("score",), weight=4),
    Kind("run.yaml", BYTES, ("run", "plan"), weight=3),
    Kind("coders/1.pt", BYTES, ("score", "cache"), weight=2),
    Kind("model/model.safetensors", BYTES, ("score", "cache")),
    Kind("model/tokenizer.json", JSON, ("score", "cache")),
    Kind("model/tokenizer_config.json", JSON, ("score", "cache")),
    Kind("model/config.json", JSON, ("score", "cache")),
)


@dataclass
class Outcome:
    status: int
    said: str
    escaped: list[str] = field(default_factory=list)


class World:
    """The folder with the model, the coder, the answers, and the run directory in its two states."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.case = root / "case"

    def make(self) -> None:
        shutil.copytree(resolve_path("embedded:language_model"), self.root / "model")
        shutil.copytree(resolve_path("embedded:sparse_coders/openai"), self.root / "coders")
        with LlmServer(respond) as server:
            self._write("use", server.base_url)
            self._need("cache", "run.yaml", "--out", "cached")
            self._need("triage", "cached")
            shutil.copytree(self.root / "cached", self.root / "whole")
            self._need("score", "whole")
        self._write("replay", server.base_url)
        for state in ("cached", "whole"):
            config = (self.root / state / "config.yaml").read_text()
            (self.root / state / "config.yaml").write_text(config.replace("mode: use", "mode: replay"))
            (self.root / state / "log.jsonl").unlink(missing_ok=True)
        self._need("score", "whole")

    def _write(self, mode: str, url: str) -> None:
        (self.root / "run.yaml").write_text(
            RUN_FILE.format(folder=self.root, mode=mode, url=url).replace("model: MODEL", "model: my-model")
        )

    def _need(self, *arguments: str) -> None:
        found = invoke([a if a in COMMANDS or a.startswith("-") else str(self.root / a) for a in arguments])
        assert found.status == 0, found.said

    def arguments(self, command: str) -> list[str]:
        case = str(self.case)
        return {
            "score": ["score", case],
            "triage": ["triage", case],
            "neighbours": ["neighbours", case, "--kind", "jaccard", "--n", "3"],
            "convert": ["convert", case, str(self.case / "converted"), "--to", "original"],
            "status": ["status", case],
            "report": ["report", case],
            "run": ["run", str(self.root / "run.yaml"), "--out", case],
            "plan": ["plan", str(self.root / "run.yaml"), "--out", case],
            "cache": ["cache", str(self.root / "run.yaml"), "--out", str(self.case / "fresh")],
        }[command]

    def results(self, command: str) -> object:
        """What a command made, in a form that two runs of it share to the byte."""
        if command in ("score", "run"):
            return tables(self.case / "results.sqlite")
        if command == "report":
            return [(self.case / "report" / name).read_bytes() for name in ("scores.tsv", "features.jsonl")]
        folder = {"triage": "triage", "neighbours": "neighbours", "convert": "converted"}.get(command)
        if folder is None:
            return None
        return {str(p.relative_to(self.case)): p.read_bytes() for p in files_in(self.case / folder)}


COMMANDS = ("cache", "triage", "score", "run", "status", "report")


def tables(path: Path) -> object:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found = {}
        for table in ("records", "explanations", "scores"):
            names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            columns = ", ".join(name for name in names if name != "digest")
            found[table] = sorted(connection.execute(f"SELECT {columns} FROM {table}"), key=repr)
        return found


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


class Watch:
    """What is written, made, renamed or deleted outside of the folders where a case may write."""

    def __init__(self) -> None:
        self.allowed: tuple[str, ...] = ()
        self.escaped: list[str] = []
        self.is_on = False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        if event == "open":
            path, mode, flags = arguments
            is_writing = (isinstance(mode, str) and set(mode) & set("wax+")) or (
                isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            )
            if is_writing:
                self._check(event, path)
        elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.symlink", "shutil.rmtree"):
            if event in ("os.remove", "os.rmdir") and arguments[1] != -1:
                return  # below a folder that `shutil.rmtree` was given, which is looked at
            for path in arguments[: 2 if event == "os.rename" else 1]:
                if event != "os.mkdir" or not os.path.isdir(path):  # noqa: PTH112 - one that is there is not made
                    self._check(event, path)

    def _check(self, event: str, path: object) -> None:
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        if not isinstance(path, str | os.PathLike):
            return
        if os.path.realpath(path).startswith(ANSWERS):
            return
        whole = os.path.realpath(os.path.dirname(os.path.abspath(path)))  # noqa: PTH100, PTH120 - within an audit hook
        if not any(whole == each or whole.startswith(f"{each}/") for each in self.allowed):
            self.escaped.append(f"{event} {path}")


WATCH = Watch()
ANSWERS = os.path.realpath(os.environ.get("SAE_AUTO_INTERP_CACHE", "answers"))
"""The user's folder for caches may be made: it is where answers go when a run file names no other place."""


def invoke(arguments: list[str]) -> Outcome:
    """The command in this process, within its time."""

    def late(signum: int, frame: object) -> None:
        raise TimeoutError(f"took more than {MOST_SECONDS} s")

    said, before = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace"), signal.signal(signal.SIGALRM, late)
    argv, sys.argv = sys.argv, ["sae-auto-interp", *arguments]
    signal.alarm(MOST_SECONDS)
    WATCH.escaped.clear()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            cli.main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        status = 99
        said.write(traceback.format_exc())
    finally:
        signal.alarm(0)
        WATCH.is_on = False
        signal.signal(signal.SIGALRM, before)
        sys.argv = argv
    said.flush()
    whole = said.buffer.getvalue().decode()  # pyright: ignore[reportAttributeAccessIssue]
    return Outcome(status, whole, list(WATCH.escaped))


def chosen_kinds(n: int, rng: np.random.Generator) -> Iterator[tuple[Kind, str]]:
    """Every kind with every command of it first, then by weight."""
    every = [(kind, command) for kind in KINDS for command in kind.commands]
    yield from every[:n]
    weights = np.array([kind.weight / len(kind.commands) for kind, _ in every])
    for i in rng.choice(len(every), size=max(0, n - len(every)), p=weights / weights.sum()):
        yield every[i]


def one_case(world: World, kind: Kind, command: str, rng: np.random.Generator, right: Callable[..., object]) -> str:
    """How a case ended: `same`, `refused`, `said`, or what is wrong with it."""
    shutil.rmtree(world.case, ignore_errors=True)
    shutil.copytree(world.root / kind.state, world.case)
    files = sorted(world.root.glob(kind.pattern))
    file = files[int(rng.integers(len(files)))]
    content, mutate = file.read_bytes(), kind.mutators[int(rng.integers(len(kind.mutators)))]
    changed = mutate(content, rng)
    expected = right(kind.state, command)
    config = load_config(world.root / "run.yaml")
    before = outside(world)
    try:
        file.write_bytes(changed)
        WATCH.allowed = (str(world.case), str(Path(os.devnull).parent))
        found = in_case(world, command)
        return judged(world, kind, command, found, expected, config, changed == content, outside(world) - before)
    except Exception:
        return f"program: {traceback.format_exc()[-800:]}"
    finally:
        file.write_bytes(content) if file.parent.exists() else None
        for name in ("run.yaml", "responses.sqlite"):
            if file == world.root / name:
                file.write_bytes(content)
        for beside in world.root.glob("responses.sqlite-*"):
            beside.unlink()


def in_case(world: World, command: str) -> Outcome:
    WATCH.is_on = True
    return invoke(world.arguments(command))


def outside(world: World) -> set[tuple[str, int]]:
    """The files around the case, which no case may change; the answers are SQLite's to write."""
    around = (p for p in files_in(world.root.parent) if not p.is_relative_to(world.case))
    return {(str(p), p.stat().st_size) for p in around if not p.name.startswith("responses.sqlite")}


def judged(
    world: World,
    kind: Kind,
    command: str,
    found: Outcome,
    expected: object,
    config: object,
    is_equal: bool,
    new: set[Any],
) -> str:
    escaped = [each for each in found.escaped if "responses.sqlite" not in each and "__pycache__" not in each]
    new = {entry for entry in new if entry[0] != str(world.root / kind.pattern)}
    if escaped or (new and not kind.pattern.startswith(("run", "coders", "model"))):
        return f"outside: {escaped} {sorted(new)[:3]}"
    if found.status == 99 or "Traceback" in found.said:
        return f"traceback: {found.said[-1200:]}"
    if found.status not in (0, 2, 3):
        return f"status {found.status}: {found.said[-400:]}"
    errors = [line for line in found.said.splitlines() if line.startswith("error: ")]
    if found.status == 2:
        return "refused" if errors else f"status 2 without a line: {found.said[-400:]}"
    if found.status == 3:
        return "said"
    if command in ("status", "plan", "cache"):
        return "same" if is_equal else "went on"
    if world.results(command) == expected:
        return "same"
    if kind.pattern in ("run.yaml", "case/config.yaml"):
        file = world.root / "run.yaml" if kind.pattern == "run.yaml" else None
        if file is None or load_config(file) != config:
            return "said" if file is not None or SAID.search(found.said) else f"silent: {found.said[-600:]}"
    return "said" if SAID.search(found.said) else f"silent: {found.said[-600:]}"


def main(folder: Path, n: int, seed: int) -> dict[str, Any]:
    world = World(folder / "outer" / "world")
    world.root.mkdir(parents=True)
    begin = time.monotonic()
    world.make()
    made_seconds = time.monotonic() - begin
    known: dict[tuple[str, str], object] = {}

    def right(state: str, command: str) -> object:
        if (state, command) not in known and command not in ("status", "plan", "cache"):
            shutil.rmtree(world.case, ignore_errors=True)
            shutil.copytree(world.root / state, world.case)
            found = invoke(world.arguments(command))
            assert found.status == 0, found.said
            known[state, command] = world.results(command)
            shutil.rmtree(world.case)
            shutil.copytree(world.root / state, world.case)
        return known.get((state, command))

    for kind in KINDS:
        for command in kind.commands:
            right(kind.state, command)
    rng = np.random.default_rng(seed)
    ends: Counter[str] = Counter()
    bad: list[dict[str, str]] = []
    by_kind: dict[str, Counter[str]] = {}
    for number, (kind, command) in enumerate(chosen_kinds(n, rng)):
        case_rng = np.random.default_rng([seed, number])
        end = one_case(world, kind, command, case_rng, right)
        word = end.partition(":")[0].partition(" ")[0] if end != "went on" else end
        ends[word] += 1
        by_kind.setdefault(f"{kind.pattern} {command}", Counter())[word] += 1
        if end not in ("same", "refused", "said", "went on"):
            bad.append({"number": str(number), "file": kind.pattern, "command": command, "end": end})
            sys.stderr.write(json.dumps(bad[-1]) + "\n")
            sys.stderr.flush()
    seconds = time.monotonic() - begin - made_seconds
    return {
        "n": n, "ends": dict(ends), "bad": bad, "seconds": round(seconds, 1), "made_seconds": round(made_seconds, 1),
        "by_kind": {name: dict(counts) for name, counts in sorted(by_kind.items())},
    }  # fmt: skip


if __name__ == "__main__":
    try:
        print(json.dumps(main(Path(sys.argv[1]).resolve(), int(sys.argv[2]), int(sys.argv[3])), indent=1))
    except SaeAutoInterpError as error:
        sys.exit(f"the world could not be made: {error}")
