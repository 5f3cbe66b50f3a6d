"""Progress: plain lines where nobody watches, a bar on a terminal."""

import io
import json
import re

from rich.console import Console

from sae_auto_interp.pipeline.clients.request_counts import RequestCounts
from sae_auto_interp.pipeline.progress.displays import BarProgress, EventProgress, LineProgress, make_progress
from sae_auto_interp.types import Usage


def test_lines_say_what_is_done_failed_and_left() -> None:
    stream = io.StringIO()
    with LineProgress(stream, interval_seconds=0) as progress:
        progress.start("explain", 10, 4, "explanations")
        progress.advance_stage("explain", ["timeout", "unparsable"])
        progress.advance(5)
        progress.finish()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "explain: 10 explanations, 4 already done"
    failed = r"2 failed \(1 timeout, 1 unparsable\)"
    assert re.fullmatch(rf"explain: 5 of 10 explanations, [\d,.]+/s, \d+ s left, {failed}", lines[1])
    assert re.fullmatch(rf"explain: 10 of 10 explanations, [\d,.]+/s, {failed}", lines[-1])


def test_stages_overlap_and_what_will_not_come_is_dropped() -> None:
    stream = io.StringIO()
    with LineProgress(stream, interval_seconds=0) as progress:
        progress.start("explain", 2, 0, "explanations")
        progress.start("score", 4, 0, "scores")
        progress.advance_stage("explain", ["unparsable"])
        progress.drop("score", 2)
        progress.advance_stage("score")
        progress.advance_stage("explain")
        progress.advance_stage("score")
        for stage in ("explain", "score"):
            progress.finish_stage(stage)
    assert stream.getvalue().splitlines()[-1].startswith("score: 2 of 2 scores")


def test_requests_are_shown_once() -> None:
    stream = io.StringIO()
    with LineProgress(stream, interval_seconds=0) as progress:
        progress.watch(RequestCounts(n_open=3, n_answered=1200, usage=Usage(4_560_000, 12_300, 1200)))
        progress.start("explain", 2, 0, "explanations")
        progress.start("score", 4, 0, "scores")
        progress.advance_stage("explain")
        progress.advance_stage("score")
    shown = [line for line in stream.getvalue().splitlines() if "answers" in line]
    assert len(shown) == 1
    assert shown[0].startswith("score: 1 of 4")
    assert shown[0].endswith("1,200 answers, 3 open, 4.56M + 12.3k tokens")


def test_events_for_machines() -> None:
    stream = io.StringIO()
    with EventProgress(stream, interval_seconds=0) as progress:
        progress.watch(RequestCounts(n_answered=7, usage=Usage(70, 7, 7)))
        progress.note("loading")
        progress.start("score", 4, 1, "scores")
        progress.advance_stage("score", ["timeout"])
        progress.finish()
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["note", "start", "progress", "finish", "end"]
    assert (events[2]["done"], events[2]["total"], events[2]["failures"]) == (2, 4, {"timeout": 1})
    assert events[2]["requests"]["prompt_tokens"] == 70
    assert events[-1]["status"] == "finished"


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
        progress.advance_stage("score", ["timeout"])
        progress.advance()
        progress.finish()
    shown = console.file.getvalue()  # pyright: ignore
    assert "loading [the] model" in shown
    assert "3/3" in shown
    assert "1 failed (1 timeout)" in shown


def test_a_stream_that_is_no_terminal_gets_lines() -> None:
    assert isinstance(make_progress(io.StringIO()), LineProgress)
