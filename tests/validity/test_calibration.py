"""`calibrate` measures a model whose error rates are known, directly and over a real socket."""

import asyncio
import json
import sys

import pytest

from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.errors import ConfigError
from sae_auto_interp.pipeline.commands.calibrate import CalibrationOptions, calibrate
from sae_auto_interp.report.tables.calibration import JudgeReport, judge_reports
from sae_auto_interp.types import Message, Request
from tests.support.llm_server import LlmServer, Received, Reply, answer
from tests.support.scripted_llm import MODEL, explain_and_judge
from tests.validity import simulated
from tests.validity.chance import LEVEL, choice_interval


class Silent:
    """Progress that nobody watches."""

    def note(self, text: str) -> None: ...
    def start(self, stage: str, total: int, done: int, unit: str) -> None: ...
    def advance(self, n: int = 1) -> None: ...
    def finish(self) -> None: ...


def measured(client: ScriptedClient, n_examples: int = 10) -> dict[str, JudgeReport]:
    found = asyncio.run(calibrate(client, CalibrationOptions(n_examples=n_examples), Silent()))
    return {report.scorer: report for report in judge_reports(found, LEVEL)}


def test_an_oracle_is_perfect_and_helpless_without_the_explanation() -> None:
    client = simulated.model(simulated.oracle)
    reports = measured(client)
    assert set(reports) == {"detection", "fuzzing"}
    for each in reports.values():
        rates = (each.sensitivity, each.specificity_random, each.specificity_near, each.balanced_accuracy)
        assert [rate.value for rate in rates] == [1.0] * 4
        assert [rate.n for rate in rates] == [120, 60, 60, 240]
        assert each.hidden.low is not None
        assert each.hidden.high is not None
        assert each.hidden.low <= 0.5 <= each.hidden.high
        assert (each.failure_rate.value, each.n_windows, each.usage.n_requests) == (0.0, 480, 96)
    assert sum(each.usage.n_requests for each in reports.values()) == len(client.requests)


def test_known_error_rates_are_found() -> None:
    for each in measured(simulated.model(simulated.erring(0.3, 0.1))).values():
        for rate, expected in ((each.sensitivity, 0.7), (each.specificity_random, 0.9), (each.specificity_near, 0.9)):
            low, high = choice_interval(rate.n, expected)
            assert rate.value is not None
            assert low <= rate.value <= high


def test_answers_out_of_form_are_counted() -> None:
    oracle = simulated.model(simulated.oracle)
    turns = iter(range(10**6))
    client = ScriptedClient(lambda r: "Yes!" if next(turns) % 4 == 0 else oracle.script(r))  # type: ignore[operator]
    for each in measured(client, n_examples=5).values():
        assert each.failure_rate.value == pytest.approx(0.25, abs=0.05)
        assert dict(each.failures) == {"unparsable": round(each.n_windows * (each.failure_rate.value or 0))}
        assert each.sensitivity.value == 1.0


def reply(received: Received) -> Reply:
    """An oracle behind a socket; what it is asked before a run it answers as `explain_and_judge` does."""
    if b"Excerpt 1:" not in received.raw_body:
        return explain_and_judge(received)
    messages = tuple(Message(message["role"], message["content"]) for message in received.body["messages"])
    return answer(simulated.model(simulated.oracle).script(Request(messages)).text)  # type: ignore[operator]


def run_cli(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    from sae_auto_interp.cli import main

    monkeypatch.setattr(sys, "argv", ["sae-auto-interp", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code in (0, None), capsys.readouterr().err
    return capsys.readouterr().out


def test_the_command_prints_a_table_and_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with LlmServer(reply) as server:
        asked = ["calibrate", "--base-url", server.base_url, "--model", MODEL, "--n-examples", "2"]
        table = run_cli(asked, monkeypatch, capsys)
        found = json.loads(run_cli([*asked, "--json"], monkeypatch, capsys))
    assert f"{MODEL} as judge" in table
    assert "100 windows cost" in table
    assert [test["scorer"] for test in found["tests"]] == ["detection", "fuzzing"]
    assert [test["balanced_accuracy"]["value"] for test in found["tests"]] == [1.0, 1.0]


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match="n_examples=50; give 2 to 20"):
        CalibrationOptions(n_examples=50)
