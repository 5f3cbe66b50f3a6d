from pathlib import Path
from typing import Any

import pytest

from benchmarks.lines import read_lines
from benchmarks.options import PEER_PYTHON, options, parser, peer_python
from benchmarks.side_by_side import NO_PEER, Session, Task, exit_status


def task(who: str, folder: Path, **settings: Any) -> Task:
    return Task("test", who, "tests.benchmarks.programs", {"mark": who[0], "seconds": 1.0} | settings, folder)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(out=tmp_path / "lines.jsonl", repetitions=2, threads=1)


def test_repetitions_take_turns_and_every_answer_is_a_line(session: Session, tmp_path: Path) -> None:
    lines = session.run([task("ours", tmp_path), task("bare", tmp_path, seconds=0.5)])
    assert (tmp_path / "order.txt").read_text().split() == ["o", "b", "o", "b"]
    assert [(line.who, line.repetition, line.result["seconds"]) for line in lines] == [
        ("ours", 0, 1.0), ("bare", 0, 0.5), ("ours", 1, 1.0), ("bare", 1, 0.5),
    ]  # fmt: skip
    assert lines[0].result["threads_asked"] == 1
    assert lines[0].machine["cores"] >= 1
    assert read_lines([session.out]) == lines
    assert exit_status(session.out) == 0


def test_a_program_that_fails_is_missing_with_its_reason(session: Session, tmp_path: Path) -> None:
    line = session.run([task("ours", tmp_path, fails=True)])[0]
    assert line.result == {}
    assert line.missing == "failed: this is why"
    assert exit_status(session.out) == 1


def test_without_its_environment_the_peer_is_missing_once(session: Session, tmp_path: Path) -> None:
    lines = session.run([session.task("caching", "peer", {}, tmp_path)])
    assert [line.missing for line in lines] == [NO_PEER]
    assert exit_status(session.out) == 0


def test_the_peers_python_is_the_given_one_then_the_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, from_variable = tmp_path / "given", tmp_path / "variable"
    given.touch()
    from_variable.touch()
    monkeypatch.setenv(PEER_PYTHON, str(from_variable))
    assert peer_python(given) == given
    assert peer_python(None) == from_variable
    with pytest.raises(SystemExit, match="there is no Python at"):
        peer_python(tmp_path / "nowhere")


def test_a_run_begins_its_file_anew(tmp_path: Path) -> None:
    out = tmp_path / "lines.jsonl"
    out.write_text("old\n")
    chosen = options("test", parser("test", None).parse_args(["--out", str(out), "--quick"]))
    assert not out.exists()
    assert chosen.session.repetitions == 1
