"""Nothing but content changes what is stored: one run file with every scorer and every kind of silent windows,
run as it is, in other batches, processes and limits, and killed again and again: the same bytes are stored."""

import os
import signal
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.metrics import tnr_by_source
from sae_auto_interp.registry import component_names
from sae_auto_interp.results import RESULTS_FILE, ResultStore
from tests.e2e.runs import environment
from tests.support.every_model import respond
from tests.support.llm_server import LlmServer, Received, Reply
from tests.support.warm import WarmCall

RUN_FILE = """
model: embedded:language_model
device: cpu
autoencoders: [{autoencoders}]
data: {{n_tokens: 25000, ctx_len: 128, max_chars_per_document: 3000}}
cache: {{batch_size: {batch_size}, buffer_mib: 1}}
preflight: {{enabled: false}}
features:
  n_features: 2
  n_train: 10
  n_test: 10
  n_quantiles: 5
  n_dev: 10
  n_non_activating_dev: 6
  n_non_activating_train: {{random: 6, neighbour: 300, token: 4, similar: 4}}
  n_non_activating_test: {{random: 6, neighbour: 4, token: 4, similar: 4}}
  similar_pool: 400
  n_logits: 5
  workers: {workers}
  embedder: {embedder}
explainers: [simple, {{name: best_of_n, n: 2, judge: llm}}]
scorers:
  - detection
  - fuzzing
  - fuzzing_same_window
  - fuzzing_delphi
  - saebench
  - discrimination
  - {{name: intruder, n_choices: 3, n_trials: 4}}
  - {{name: intruder_explained, n_choices: 3, n_trials: 4}}
  - {{name: embedding, embedder: {embedder}}}
  - {{name: example_embedding, embedder: {embedder}}}
  - {{name: detection, judge: {{name: embedding, threshold: 0.2, embedder: {embedder}}}}}
  - {{name: simulation, n_windows: 4, calibration: linear, n_calibration: 4}}
  - {{name: simulation_all_at_once, n_windows: 4}}
  - {{name: simulation_token_by_token, n_windows: 2}}
  - surprisal
  - {{name: generation, n_texts: 4, n_boundary: 4}}
  - {{name: sensitivity, n_texts: 4}}
n_shuffled: 1
n_nearest: 1
n_hidden: 1
responses: {{mode: "off"}}
client: {{base_url: {url}, max_concurrency: {limit}}}
prompt_reader: {{base_url: {url}, max_concurrency: {limit}}}
"""
Whole = tuple[Path, Mapping[str, Any], int]
"""Folder, what is stored, and how many requests it took."""
TABLES = ("records", "explanations", "scores", "failures", "finished")
KINDS = {"random", "neighbour", "token", "similar"}
IS_SOAK = bool(os.environ.get("SAE_AUTO_INTERP_SOAK"))
TWO = "embedded:sparse_coders/openai, embedded:sparse_coders/sparsify"
AUTOENCODERS = TWO if IS_SOAK else "embedded:sparse_coders/openai"
KILLED_AFTER = (0.02, 0.1, 0.2, 0.3) if IS_SOAK else (0.15,)
"""Shares of a whole run's requests that one process after another lives to send."""


class KillingServer(LlmServer):
    """Kills the process that asks, once it has sent so many requests; answers as every model."""

    def __init__(self) -> None:
        super().__init__(self._reply)
        self.process: WarmCall | None = None
        self.patience = self.n_asked = 0
        self._guard = threading.Lock()

    def _reply(self, received: Received) -> Reply:
        with self._guard:
            self.patience -= received.method == "POST"
            self.n_asked += received.method == "POST"
            if self.patience == 0 and self.process is not None:
                self.process.send_signal(signal.SIGKILL)
        return respond(received)


@pytest.fixture(scope="module")
def server() -> Iterator[KillingServer]:
    with KillingServer() as running:
        yield running


def run(folder: Path, server: KillingServer, patience: int = -1, **changes: Any) -> int:
    """The status of a run, killed after so many requests, if it comes to that."""
    settings = {"autoencoders": AUTOENCODERS, "batch_size": 16, "workers": 0, "limit": 16} | changes
    embedder = f"{{name: openai, base_url: {server.base_url}, model: small}}"
    folder.mkdir(exist_ok=True)
    (folder / "run.yaml").write_text(RUN_FILE.format(url=server.base_url, embedder=embedder, **settings))
    with WarmCall(("run", folder / "run.yaml", "--out", folder / "run"), environment()) as process:
        server.process, server.patience = process, patience
        _, said = process.communicate(timeout=280)
    assert process.wait() in (0, -signal.SIGKILL), said
    return process.wait()


def stored(folder: Path) -> Mapping[str, Any]:
    """All that a report can show, in an order that does not depend on when it was stored; and the cache."""
    with closing(sqlite3.connect(folder / "run" / RESULTS_FILE)) as connection:
        tables = {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in TABLES}
    kept = {
        str(path.relative_to(folder)): path.read_bytes()
        for part in ("features", "similar", "triage")
        for path in sorted((folder / "run" / part).rglob("*.safetensors"))
    }
    return tables | kept


@pytest.fixture(scope="module")
def whole(server: KillingServer, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    server.n_asked = 0
    assert run(folder, server) == 0
    return folder, stored(folder), server.n_asked


def test_every_scorer_and_every_kind_of_window_is_in_it(whole: Whole) -> None:
    with ResultStore.open(whole[0] / "run" / RESULTS_FILE, read_only=True) as store:
        scores, records, failures = list(store.scores()), list(store.records()), store.failures()
    assert {score.scorer for _, score in scores} == set(component_names("scorers"))
    assert len(records) == 2 * len(AUTOENCODERS.split(","))
    assert not [failure for _, failure in failures if failure.stage != "records"]
    for judge, score in scores:
        if score.scorer in ("detection", "fuzzing", "fuzzing_delphi") and judge != "lexical":
            assert set(tnr_by_source(score)) == KINDS, score.scorer
        kinds = {failure.kind for failure in score.failures}
        assert kinds <= {"no_room"}, (score.scorer, kinds)


def test_too_few_of_a_kind_is_said_with_the_record(whole: Whole) -> None:
    with ResultStore.open(whole[0] / "run" / RESULTS_FILE, read_only=True) as store:
        for record in store.records():
            found = [e.source for e in record.non_activating.explain].count("neighbour")
            (short,) = (each for each in record.shortages if each.wanted == 300)
            assert (short.source, short.found) == ("neighbour", found)
            assert 0 < found < 300


def test_batches_processes_and_limits_change_no_byte(whole: Whole, server: KillingServer, tmp_path: Path) -> None:
    assert run(tmp_path, server, batch_size=3, workers=1, limit=3) == 0
    found = stored(tmp_path)
    assert found.keys() == whole[1].keys()
    assert not [name for name in found if found[name] != whole[1][name]]


def test_nor_does_being_killed_again_and_again(whole: Whole, server: KillingServer, tmp_path: Path) -> None:
    for share in KILLED_AFTER:
        assert run(tmp_path, server, patience=round(share * whole[2])) == -signal.SIGKILL
    assert run(tmp_path, server) == 0
    found = stored(tmp_path)
    assert not [name for name in whole[1] if found[name] != whole[1][name]]
