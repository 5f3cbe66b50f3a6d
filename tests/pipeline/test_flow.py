"""Explaining and scoring side by side: what is stored depends on neither concurrency nor order nor interruptions."""

import json
import sqlite3
import zlib
from collections import Counter
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.errors import InputError, RunDirectoryError, ServerError
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.results import ResultStore
from sae_auto_interp.results.codec import decode_record, encode_record, rounded_record
from sae_auto_interp.types import FeatureId, FeatureRecord, Request
from tests.pipeline.small_runs import MODULES, answers, configuration, contents, loader_of, run, write_small_cache
from tests.support.explaining import is_to_explain

N_FEATURES = 10


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return write_small_cache(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def expected(directory: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one request after another gives."""
    config = configuration(limit=1)
    results = tmp_path_factory.mktemp("alone") / "results.sqlite"
    client, _ = run(config, loader_of(directory, config), results)
    assert max(Counter(client.requests).values()) == 1
    return contents(results)


def test_the_world_of_this_test_has_failures_of_every_stage(expected: dict[str, Any]) -> None:
    assert len(expected["records"]) == N_FEATURES
    stages = {json.loads(content)["stage"] for _, content in expected["failures"]}
    assert stages == {"records", "explain"}
    with_failed_trials = [1 for *_, content in expected["scores"] if b"unparsable" in zlib.decompress(content)]
    assert 0 < len(with_failed_trials) < len(expected["scores"])


@pytest.mark.parametrize("limit", [7, 100])
def test_concurrency_changes_nothing(
    limit: int, directory: RunDirectory, expected: dict[str, Any], tmp_path: Path
) -> None:
    config = configuration(limit=limit)
    run(config, loader_of(directory, config), tmp_path / "results.sqlite")
    assert contents(tmp_path / "results.sqlite") == expected


def test_the_order_in_which_features_are_named_changes_nothing(directory: RunDirectory, tmp_path: Path) -> None:
    chosen = {module: [1, 2, 4, 5, 7] for module in MODULES}
    backwards = {module: indices[::-1] for module, indices in chosen.items()}
    for name, indices in (("forwards", chosen), ("backwards", backwards)):
        config = configuration({"indices": indices})
        run(config, loader_of(directory, config), tmp_path / name)
    assert contents(tmp_path / "forwards") == contents(tmp_path / "backwards")


@pytest.mark.parametrize("n_answers", [1, 3, 10, 25, 40, 60])
def test_an_interruption_changes_nothing_and_repeats_no_finished_unit(
    n_answers: int, directory: RunDirectory, expected: dict[str, Any], tmp_path: Path
) -> None:
    config, results = configuration(limit=3), tmp_path / "results.sqlite"
    left = n_answers

    def breaks(request: Request) -> str:
        nonlocal left
        left -= 1
        if left < 0:
            raise InputError("as if the process had ended here")
        return answers(request)

    with pytest.raises(InputError, match="as if"):
        run(config, loader_of(directory, config), results, breaks)
    finished = contents(results)["finished"]
    again, said = run(config, loader_of(directory, config), results)
    assert contents(results) == expected
    explained = sum(stage == "explain" and unit.startswith("simple/") for stage, unit in finished)
    assert sum(is_to_explain(request) for request in again.requests) == N_FEATURES - explained
    done = sum(stage == "score" for stage, _ in finished)
    assert f", {done} already done" in said if done else True


def test_a_finished_run_asks_nothing(directory: RunDirectory, expected: dict[str, Any], tmp_path: Path) -> None:
    config, results = configuration(), tmp_path / "results.sqlite"
    run(config, loader_of(directory, config), results)
    again, said = run(config, loader_of(directory, config), results)
    assert (again.requests, contents(results)) == ([], expected)
    assert "explain: 20 explanations, 20 already done" in said


def test_explaining_alone_and_scoring_later_is_the_same(
    directory: RunDirectory, expected: dict[str, Any], tmp_path: Path
) -> None:
    config, results = configuration(), tmp_path / "results.sqlite"
    explained, _ = run(config, loader_of(directory, config), results, until="explain")
    assert not contents(results)["scores"]
    scored, _ = run(config, loader_of(directory, config), results)
    assert contents(results) == expected
    assert not set(explained.requests) & set(scored.requests)


def test_scoring_overlaps_explaining_and_batches_of_a_score_come_together(
    directory: RunDirectory, tmp_path: Path
) -> None:
    config = configuration({"n_features": 8}, limit=2, explainers=["simple"])
    client, _ = run(config, loader_of(directory, config), tmp_path / "results.sqlite")
    kinds = ["explain" if is_to_explain(request) else "score" for request in client.requests]
    first_score, last_explanation = kinds.index("score"), len(kinds) - 1 - kinds[::-1].index("explain")
    assert first_score < last_explanation
    described = [r.messages[-1].content.partition("\n\n")[0] for r in client.requests if not is_to_explain(r)]
    changes = sum(one != other for one, other in pairwise(described))
    assert changes < 0.6 * len(described)


def test_controls_are_a_derangement_within_the_module(expected: dict[str, Any]) -> None:
    said = {name: json.loads(content)["text"] for _, _, name, content in expected["explanations"]}
    own = {name.partition("/")[2]: text for name, text in said.items() if name.startswith("lexical/")}
    controls = {name.partition("/")[2]: text for name, text in said.items() if name.startswith("shuffled:lexical/")}
    for module in MODULES:
        here = {str(FeatureId(module, i)) for i in range(12)}
        assert sorted(controls[f] for f in here & set(controls)) == sorted(own[f] for f in here & set(own))
    assert all(controls[feature] != own[feature] for feature in own)


def test_fewer_controls_on_demand(directory: RunDirectory, tmp_path: Path) -> None:
    counts = {}
    for n in (0, 1, 2):
        config = configuration(explainers=["lexical"], n_shuffled=n)
        run(config, loader_of(directory, config), tmp_path / str(n))
        counts[n] = sum("shuffled:" in row[2] for row in contents(tmp_path / str(n))["explanations"])
    assert counts == {0: 0, 1: len(MODULES), 2: 2 * len(MODULES)}


def test_questions_with_the_explanation_hidden_are_put_once_and_of_so_many_features(
    directory: RunDirectory, tmp_path: Path
) -> None:
    for n in (0, 2):
        config = configuration(explainers=["simple", "contrastive", "lexical"], n_hidden=n, n_shuffled=0)
        results = tmp_path / f"{n}.sqlite"
        client, _ = run(config, loader_of(directory, config), results)
        hidden = [r for r in client.requests if r.messages[-1].content.startswith("Description: unknown\n")]
        with ResultStore.open(results, read_only=True) as store:
            filed = [(score.scorer, score.feature) for judge, score in store.scores() if judge.startswith("hidden:")]
        assert len(filed) == len(set(filed))
        assert {scorer for scorer, _ in filed} == ({"detection", "fuzzing"} if n else set())
        assert len(hidden) == 4 * len(filed)  # 20 windows, 5 at a time
        assert max(Counter(feature.module_path for _, feature in filed).values(), default=0) <= 2 * n
        again, _ = run(config, loader_of(directory, config), results)
        assert not again.requests


def test_the_lexical_baseline_is_what_listing_the_explainer_gives(
    directory: RunDirectory, expected: dict[str, Any], tmp_path: Path
) -> None:
    """Of all features by default, without a request, without controls; a run that comes to list it goes on."""
    config, results = configuration(explainers=["simple"]), tmp_path / "results.sqlite"
    client, said = run(config, loader_of(directory, config), results)
    assert f"explain: {2 * N_FEATURES} explanations" in said
    found = contents(results)
    for table, place in (("explanations", 2), ("scores", 2)):
        rule = {row for row in expected[table] if str(row[place]).startswith("lexical/")}
        assert rule == {row for row in found[table] if "lexical/" in str(row[place])}
        assert len(rule) == N_FEATURES * (2 if table == "scores" else 1)
    listed = configuration()
    alone, _ = run(configuration(n_lexical=0), loader_of(directory, config), tmp_path / "listed.sqlite")
    assert Counter(client.requests) == Counter(alone.requests)
    again, _ = run(listed, loader_of(directory, listed), results)
    assert not again.requests
    assert contents(results) == expected == contents(tmp_path / "listed.sqlite")


@pytest.mark.parametrize(("n_lexical", "n_of_each_module"), [(0, 0), (1, 1), (3, 3), (None, 5)])
def test_the_lexical_baseline_of_so_many_features_and_on_tests_that_ask_of_each_window(
    n_lexical: int | None, n_of_each_module: int, directory: RunDirectory, tmp_path: Path
) -> None:
    scorers = [{"name": "detection", "judge": "hidden"}, "detection", "saebench", "intruder_explained", "intruder"]
    config = configuration(explainers=["no_op"], scorers=scorers, n_lexical=n_lexical, n_shuffled=0, n_hidden=0)
    run(config, loader_of(directory, config), tmp_path / "results.sqlite")
    with ResultStore.open(tmp_path / "results.sqlite", read_only=True) as store:
        filed = Counter(
            (judge, score.scorer, score.feature.module_path)
            for judge, score in store.scores()
            if score.explanation_id.startswith("lexical/")
        )
    each = {("lexical", name, module): n_of_each_module for name in ("detection", "saebench") for module in MODULES}
    assert filed == Counter(each) - Counter()


def test_no_lexical_baseline_where_nothing_is_scored(directory: RunDirectory, tmp_path: Path) -> None:
    for name, scorers in (("explained", ["detection"]), ("intruders", ["intruder"])):
        config = configuration(explainers=["no_op"], scorers=scorers)
        until = "explain" if name == "explained" else "score"
        run(config, loader_of(directory, config), tmp_path / name, until=until)
        assert not [row for row in contents(tmp_path / name)["explanations"] if "lexical" in row[2]]


def test_what_may_heal_stays_open_and_is_done_the_next_time(
    directory: RunDirectory, expected: dict[str, Any], tmp_path: Path
) -> None:
    config, results = configuration(), tmp_path / "results.sqlite"
    seen: Counter[Request] = Counter()

    def flaky(request: Request) -> Any:
        seen[request] += 1
        if seen[request] == 1 and hash(request.messages) % 4 == 0:
            return ServerError("out for lunch")
        return answers(request)

    run(config, loader_of(directory, config), results, flaky)
    assert {json.loads(c)["kind"] for _, c in contents(results)["failures"]} >= {"server_error"}
    run(config, loader_of(directory, config), results)
    assert contents(results) == expected


def test_a_component_that_breaks_costs_its_own_units_only(
    directory: RunDirectory, expected: dict[str, Any], tmp_path: Path
) -> None:
    config, results = configuration(), tmp_path / "results.sqlite"

    def broken(request: Request) -> str:
        text = answers(request)
        if is_to_explain(request) and text[-1].isdigit() and int(text[-1]) % 3 == 0:
            raise ZeroDivisionError("a bug in somebody's client")
        return text

    run(config, loader_of(directory, config), results, broken)
    with ResultStore.open(results, read_only=True) as store:
        crashed = {unit for unit, failure in store.failures() if failure.kind == "crashed"}
        ids = {name for name, _ in store.explanations()}
    assert crashed
    assert all(unit.startswith("simple/") for unit in crashed)
    lexical = {row[2] for row in expected["explanations"] if "lexical" in row[2]}
    assert ids >= lexical
    assert not ids & crashed


def test_no_features_is_said(directory: RunDirectory, tmp_path: Path) -> None:
    config = configuration({"indices": {MODULES[0]: [0]}})
    with pytest.raises(RunDirectoryError, match="no feature has enough examples"):
        run(config, loader_of(directory, config), tmp_path / "results.sqlite")


def test_a_record_is_used_as_it_is_stored(directory: RunDirectory) -> None:
    """What a resumed run reads is what an uninterrupted one had in its hands."""
    loader = loader_of(directory, configuration())
    record = loader.build(FeatureId(MODULES[0], 1))
    assert isinstance(record, FeatureRecord), record
    shaken = replace(record, train=tuple(replace(e, activations=e.activations / 3) for e in record.train))
    assert repr(decode_record(encode_record(shaken))) == repr(rounded_record(shaken))
    assert repr(rounded_record(shaken)) != repr(shaken)


def test_the_file_is_sound(directory: RunDirectory, tmp_path: Path) -> None:
    config = configuration(limit=100)
    run(config, loader_of(directory, config), tmp_path / "results.sqlite")
    with closing(sqlite3.connect(tmp_path / "results.sqlite")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
