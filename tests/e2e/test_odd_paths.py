"""Paths, run files and texts that nobody meant: one line and exit status 2, in this process."""

import errno
import os
from pathlib import Path

import pytest

from sae_auto_interp import cli
from tests.e2e.runs import write_run_file
from tests.support.in_process import call


def complaint(*arguments: str | Path) -> str:
    done = call(*arguments)
    assert done.status == 2, done.err
    assert len(done.error) < 1000
    return done.error


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    return write_run_file(tmp_path, n_tokens=2_000)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("/dev/null", "/dev/null is a file; choose a directory"),
        ("{folder}/run.yaml", "run.yaml is a file; choose a directory"),
        ("{folder}/run.yaml/below", "Not a directory: "),
        ("{folder}/" + 300 * "x", "File name too long: "),
        ("{folder}/" + "/".join(["y" * 200] * 30), "File name too long: "),
        ("{folder}/loop/run", "loop/run"),
        ("{folder}/half\udcff", "holds NUL or bytes that are no UTF-8; give another name"),
        ("{folder}/nul\0", "holds NUL or bytes that are no UTF-8; give another name"),
        ("/proc/self/run", "/proc/self/run"),
    ],
)
@pytest.mark.parametrize("command", ["run", "cache"])
def test_a_run_directory_that_cannot_be(command: str, name: str, problem: str, run_file: Path) -> None:
    (run_file.parent / "loop").symlink_to(run_file.parent / "loop")
    assert problem in complaint(command, run_file, "--out", name.format(folder=run_file.parent))


@pytest.mark.parametrize("command", ["status", "report", "explain", "score"])
@pytest.mark.parametrize(
    "name", ["{folder}/run.yaml", "{folder}/" + 300 * "x", "{folder}/half\udcff", "/dev/null", "nowhere"]
)
def test_a_run_directory_that_is_none(command: str, name: str, run_file: Path) -> None:
    complaint(command, name.format(folder=run_file.parent))


@pytest.mark.parametrize("name", ["x" * 300, "{folder}", "/dev/zero/run.yaml", "half\udcff.yaml", "nowhere.yaml"])
@pytest.mark.parametrize("command", ["run", "plan", "check", "config"])
def test_a_run_file_that_is_none(command: str, name: str, tmp_path: Path) -> None:
    complaint(command, name.format(folder=tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_run_file_that_is_not_ours_to_read(run_file: Path) -> None:
    run_file.chmod(0)
    assert "cannot be read (Permission denied)" in complaint("plan", run_file)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("model: !!int x", "is not valid YAML: 'x' is no int"),
        ("a: " + "[" * 3000, "is not valid YAML: more than 100 levels"),
        ("seed: 1\nseed: 2", "is not valid YAML: the key 'seed' stands there twice"),
        ("a: &a [*a]", "is not valid YAML: an anchor holds itself"),
        ("a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40)), "too many values"),
        ("data: {source: " + "s" * 5000 + "}", "File name too long: "),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan", "check", "config", "cache", "loss-recovered"])
def test_odd_run_files(command: str, line: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"autoencoders: [a]\n{line}\n" + ("" if "model:" in line else "model: m\n"))
    assert problem in complaint(command, path)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (
            "book.txt",
            "One paragraph of a book.\n\n" * 2000,
            "the text gives 1,385 tokens of 1 document: book.txt. Explaining and scoring need several",
        ),
        (
            "book.txt",
            "One paragraph of a book.\n\n" * 30,
            "tokens of 1 document: book.txt. Explaining and scoring need several",
        ),
        ("rows.json", '[{"text": "..."}]', "set data.source: hf:json and data.data_files: "),
        ("empty.txt", "", "empty.txt is empty"),
        ("deep.jsonl", "[" * 100_000, "deep.jsonl, line 1: is nested too deeply for JSON"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_texts_that_will_not_do_are_refused_before_caching(
    command: str, name: str, content: str, problem: str, run_file: Path
) -> None:
    (run_file.parent / name).write_text(content)
    source = f"data: {{source: '{run_file.parent / name}', "
    run_file.write_text(run_file.read_text().replace("data: {", source))
    out = run_file.parent / "run"
    assert problem in complaint(command, run_file, "--out", out)
    assert not (out / "features").exists()


def test_a_book_that_is_split_runs(run_file: Path) -> None:
    import pydoc_data.topics

    book = run_file.parent / "book.txt"
    book.write_text("\n\n".join(pydoc_data.topics.topics.values())[:120_000])
    settings = f"data: {{source: '{book}', split_documents: 1500, "
    run_file.write_text(run_file.read_text().replace("data: {", settings).replace("n_tokens: 2000", "n_tokens: 15000"))
    planned = call("plan", run_file)
    assert planned.status == 0, planned.err
    assert "tokens of 3" in planned.out, "documents, in the tens"
    done = call("run", run_file, "--out", run_file.parent / "run")
    assert done.status == 0, done.err
    assert "text tokens from 3" in done.err, "documents, in the tens"


def test_a_cache_of_one_document_is_made_and_said_to_be_one(run_file: Path) -> None:
    (run_file.parent / "book.txt").write_text("One paragraph of a book.\n\n" * 2000)
    source = f"data: {{source: '{run_file.parent / 'book.txt'}', "
    run_file.write_text(run_file.read_text().replace("data: {", source))
    done = call("cache", run_file, "--out", run_file.parent / "run")
    assert done.status == 0, done.err
    assert "the text has one document only: by itself it gives no feature a record" in done.err
    said = complaint("explain", run_file.parent / "run")
    assert "no feature " in said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ELOOP, "Too many levels", "/a/b"), "Too many levels: /a/b; give another path"),
        (OSError(errno.ENOSPC, "No space left", "/a/b"), "No space left: /a/b; what is finished is kept: run again"),
        (OSError(errno.EIO, "Input/output error", "y" * 5000), "y" * 200 + "…; give another path"),
        (OSError("odd"), "odd: while writing; give another path"),
        (
            ModuleNotFoundError("No module named 'far'", name="far.away"),
            "needs the package far.away, which is not installed",
        ),
    ],
)
def test_trouble_with_files_and_packages_is_one_line(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", broken)
    assert said in complaint("status")


def test_a_module_of_ours_that_is_missing_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise ModuleNotFoundError("No module named 'sae_auto_interp.x'", name="sae_auto_interp.x")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(ModuleNotFoundError):
        call("status")
