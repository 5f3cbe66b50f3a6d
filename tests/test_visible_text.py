"""Text from outside reaches a terminal or a log only as something that can be seen."""

import contextlib
import io
import json
import logging
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from sae_auto_interp.cli import main
from sae_auto_interp.pipeline.progress.displays import VisibleConsole, make_progress
from sae_auto_interp.pipeline.progress.log_file import logged_to
from sae_auto_interp.visible_text import visible, visible_lines, visible_output
from tests.support.llm_server import LlmServer, Received, Reply, error, json_reply

HOSTILE = "no\x1b[31mred \x1b]0;title\x07 \x9b2J \x85 \u202egnp.exe \u2066x \x08\x7f \ud83d"
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_nothing_is_left_that_does_something() -> None:
    assert not CONTROLS.search(visible(HOSTILE))
    assert "\n" not in visible("two\nlines")
    assert visible_lines("two\nlines\x1b") == "two\nlines␛"
    assert visible_lines("plain text, 日本語, é") == "plain text, 日本語, é"


PRINTED: dict[str, Callable[[], object]] = {
    "print": lambda: print(HOSTILE, file=sys.stderr),
    "echo": lambda: typer.echo(HOSTILE),
    "echo of an error": lambda: typer.echo(HOSTILE, err=True),
    "a warning": lambda: warnings.warn(HOSTILE, stacklevel=1),
    "a log without a handler": lambda: logging.lastResort and logging.lastResort.handle(
        logging.LogRecord("x", logging.WARNING, "x", 1, HOSTILE, (), None)
    ),
    "lines": lambda: sys.stdout.writelines([HOSTILE, "\n"]),
}  # fmt: skip


@pytest.mark.parametrize("how", PRINTED)
def test_whatever_prints(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with visible_output(), warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", _python_s_own)
        PRINTED[how]()
    assert (sys.stdout, sys.stderr) == (out, err)
    shown = out.getvalue() + err.getvalue()
    assert "no␛[31mred" in shown
    assert not CONTROLS.search(shown)


def _python_s_own(message: object, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
    """What Python does where pytest does not catch warnings."""
    sys.stderr.write(warnings.formatwarning(str(message), category, filename, lineno))


def test_a_console_prints_its_own_colours_and_nobody_elses() -> None:
    terminal = Terminal()
    console = VisibleConsole(file=terminal, force_terminal=True, color_system="standard", width=100)
    table = Table(title=Text(HOSTILE))
    table.add_column(Text(HOSTILE))
    table.add_row(Text(f"token {HOSTILE}", style="red"))
    console.print(Panel(table))
    console.print(HOSTILE, markup=False, style="bold")
    shown = terminal.getvalue()
    assert "\x1b[31mtoken" in shown, "its own"
    assert not CONTROLS.search(re.sub(r"\x1b\[[\d;]*m", "", shown.replace("\x1b[31mtoken", "")))
    assert "no␛[31mred" in shown
    assert shown.count("\x1b[31mred") == 0


def test_the_progress_of_a_terminal_and_of_a_file() -> None:
    for stream in (Terminal(), io.StringIO()):
        with make_progress(stream) as progress:  # type: ignore[arg-type]
            progress.note(HOSTILE)
            progress.start("explain", 3, 0, "features")
            print(f"printed meanwhile {HOSTILE}")
            progress.advance()
        shown = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", stream.getvalue()).replace("\r", "")
        assert "no␛[31mred" in shown
        assert not CONTROLS.search(shown), shown


def test_the_log_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What pytest captures, it sends to another process, which half a character would end.
    monkeypatch.setattr(logging.getLogger("sae_auto_interp"), "propagate", False)
    log = logging.getLogger("sae_auto_interp.test")
    with logged_to(tmp_path / "log.jsonl"):
        log.warning("said: %s", HOSTILE)
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            log.exception("broke")
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert "no␛[31mred" in lines[0]["message"]
    assert "no␛[31mred" in lines[1]["exception"]
    assert not CONTROLS.search("".join(line["message"] + line.get("exception", "") for line in lines))


def said_by(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command says when it fails."""
    monkeypatch.setattr(sys, "argv", ["sae-auto-interp", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    shown = "".join(capsys.readouterr())
    assert left.value.code == 2, shown
    assert not CONTROLS.search(shown), shown
    assert sum(line.startswith("error: ") for line in shown.splitlines()) == 1
    return shown


REPLIES: dict[str, Callable[[Received], Reply]] = {
    "a refusal": lambda received: error(401, HOSTILE),
    "a page": lambda received: Reply(401, HOSTILE.encode("utf-8", "replace"), {"Content-Type": "text/html"}),
    "a list of models": lambda received: json_reply({"data": [{"id": HOSTILE}, {"id": "b\nc"}]}),
    "a list of codes": lambda received: Reply(403 if received.method == "GET" else 401, b"\x1b[2J" * 50),
}


@pytest.mark.parametrize("name", REPLIES)
def test_what_a_server_says(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with LlmServer(REPLIES[name]) as server:
        shown = said_by(monkeypatch, capsys, "calibrate", "--base-url", server.base_url, "--model", "judge")
    assert "error: " in shown


def test_what_a_run_file_and_a_directory_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text('model: "no\\e[31mred"\nautoencoders: ["no\\e]0;x\\asuch"]\nexplainers: [lexical]\n')
    said_by(monkeypatch, capsys, "run", str(file), "--out", str(tmp_path / "out"))
    file.write_text('model: m\nautoencoders: [a]\nexplainers: ["\\e[31m\\u202e"]\n')
    said_by(monkeypatch, capsys, "run", str(file), "--out", str(tmp_path / "out"))
    named = tmp_path / "a\x1b[31mb\u202e"
    with contextlib.suppress(OSError):
        named.mkdir()
    said_by(monkeypatch, capsys, "status", str(named))
    said_by(monkeypatch, capsys, "report", str(named) + "\nerror: forged")
    said_by(monkeypatch, capsys, "run", str(named / "x.yaml"))
    said_by(monkeypatch, capsys, "sta\x1b[31mtus")
