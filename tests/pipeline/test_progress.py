"""Progress: plain lines where nobody watches, a bar on a terminal."""

import io
import re

from rich.console import Console

from sae_auto_interp.pipeline.progress import BarProgress, LineProgress, make_progress


def test_lines_say_what_is_done_failed_and_left() -> None:
    stream = io.StringIO()
    with LineProgress(stream, interval_seconds=0) as progress:
        progress.start("explain", 10, 4, "explanations")
        progress.advance(failed=1)
        progress.advance(5)
        progress.finish()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "explain: 10 explanations, 4 already done"
    assert re.fullmatch(r"explain: 5 of 10 explanations, [\d,.]+/s, \d+ s left, 1 failed", lines[1])
    assert re.fullmatch(r"explain: 10 of 10 explanations, [\d,.]+/s, 1 failed", lines[-1])


def test_lines_keep_their_distance() -> None:
    stream = io.StringIO()
    with LineProgress(stream, interval_seconds=3600) as progress:
        progress.start("cache", 1000, 0, "tokens")
        for _ in range(1000):
            progress.advance()
    assert len(stream.getvalue().splitlines()) == 1


def test_a_bar_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with BarProgress(console) as progress:
        progress.note("loading [the] model")
        progress.start("score", 3, 1, "scores")
        progress.advance(failed=1)
        progress.advance()
        progress.finish()
    shown = console.file.getvalue()  # pyright: ignore
    assert "loading [the] model" in shown
    assert "3/3" in shown
    assert "1 failed" in shown


def test_a_stream_that_is_no_terminal_gets_lines() -> None:
    assert isinstance(make_progress(io.StringIO()), LineProgress)
