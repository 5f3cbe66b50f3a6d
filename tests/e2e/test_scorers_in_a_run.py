"""Every scorer of explanations as a classifier goes through features of the demo, and concurrency changes no byte."""

import re
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from sae_auto_interp.results import RESULTS_FILE, ResultStore
from sae_auto_interp.types import Score
from tests.e2e.runs import sae_auto_interp, write_run_file
from tests.support.llm_server import LlmServer, Received, Reply, answer, json_reply
from tests.support.scripted_llm import explain_and_judge

SCORERS = """
scorers:
  - detection
  - fuzzing
  - fuzzing_same_window
  - fuzzing_delphi
  - {{name: intruder, n_choices: 3, n_trials: 6}}
  - {{name: intruder_explained, n_choices: 3, n_trials: 6}}
  - discrimination
  - saebench
  - {{name: embedding, embedder: {embedder}}}
  - {{name: example_embedding, embedder: {embedder}}}
  - {{name: detection, judge: hidden}}
  - {{name: fuzzing, judge: {{name: embedding, threshold: 0.2, embedder: {embedder}}}}}
features:
  n_features: 3
  n_quantiles: 4
  n_train: 12
  n_test: 20
  n_non_activating_train: 12
  n_non_activating_test: 20
client: {{base_url: {url}, max_concurrency: {limit}}}
"""
CLASSIFICATION = {"detection", "fuzzing", "fuzzing_same_window", "fuzzing_delphi", "saebench"}


def respond(received: Received) -> Reply:
    """A language model and an embedding model; SAEBench's plain-text question gets a list of numbers."""
    if received.path.endswith("/embeddings"):
        texts = received.body["input"]
        return json_reply({"data": [{"index": i, "embedding": _vector(text)} for i, text in enumerate(texts)]})
    if b"numbered texts" in received.raw_body:
        return answer("1, 4 and 9")
    return explain_and_judge(received)


def _vector(text: str) -> list[float]:
    counts = [0.01] * 64
    for word in re.findall(r"\w+", text.lower()):
        counts[zlib.crc32(word.encode()) % 64] += 1
    return counts


def run(folder: Path, server: LlmServer, limit: int) -> None:
    embedder = f"{{name: openai, base_url: {server.base_url}, model: small}}"
    more = SCORERS.format(url=server.base_url, limit=limit, embedder=embedder)
    run_file = write_run_file(folder, "simple", more="")
    text = re.sub(r"^features:.*\n", "", run_file.read_text(), flags=re.MULTILINE) + more
    run_file.write_text(text)
    done = sae_auto_interp("run", run_file, "--out", folder / "run")
    assert done.returncode == 3, done.stderr
    assert "error: discrimination, judged by llm:my-model, has no readable answer" in done.stderr


def stored_scores(folder: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / "run" / RESULTS_FILE)) as connection:
        return sorted(connection.execute("SELECT * FROM scores"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[tuple[str, Score]], list[list[tuple[object, ...]]]]:
    """The scores of one run, and the stored bytes of it and of the same run with another limit."""
    folder = tmp_path_factory.mktemp("scorers")
    with LlmServer(respond) as server:
        run(folder, server, limit=16)
        first = stored_scores(folder)
        with ResultStore.open(folder / "run" / RESULTS_FILE, read_only=True) as store:
            scores = list(store.scores())
        for file in (folder / "run").glob(f"{RESULTS_FILE}*"):
            file.unlink()
        run(folder, server, limit=1)
    return scores, [first, stored_scores(folder)]


def test_each_scorer_scores_each_feature_and_its_control(runs: tuple[list[tuple[str, Score]], object]) -> None:
    found: dict[tuple[str, str], set[str]] = {}
    for judge, score in runs[0]:
        found.setdefault((score.scorer, judge.partition(":")[0]), set()).add(score.explanation_id)
    hidden = {(name, "hidden") for name in CLASSIFICATION}  # detection by the run file, the others by n_hidden
    rule = {(name, "lexical") for name in CLASSIFICATION}
    without_control = {("intruder", "llm"), ("example_embedding", "openai"), *hidden, *rule}
    assert {key: len(ids) for key, ids in found.items()} == {
        key: 3 if key in without_control else 6
        for key in (
            *((name, "llm") for name in (*CLASSIFICATION, "intruder", "intruder_explained", "discrimination")),
            ("embedding", "openai"), ("example_embedding", "openai"), ("fuzzing", "embedding"), *hidden, *rule,
        )
    }  # fmt: skip


def test_every_question_is_answered_but_for_the_neighbours_that_a_plain_record_lacks(
    runs: tuple[list[tuple[str, Score]], object],
) -> None:
    for _, score in runs[0]:
        kinds = {failure.kind for failure in score.failures}
        assert kinds <= ({"too_few_examples"} if score.scorer == "discrimination" else {"no_room"}), score.scorer
        wanted = "classification" if score.scorer in CLASSIFICATION else "ranking"
        assert score.kind == (wanted if score.trials else "choice")


def test_the_number_of_requests_in_flight_changes_no_byte(runs: tuple[object, list[list[tuple[object, ...]]]]) -> None:
    first, second = runs[1]
    assert len(first) == 90
    assert first == second
