"""The same run through two real servers: one that does all it is asked, and one that ignores most of it.

Both serve the same model, which says one sentence that is an explanation and a verdict alike. llama.cpp holds answers
to their schema: what it says is then JSON that this model would never write by itself. `transformers serve` takes
schemas and log-probabilities without a word and does neither: verdicts are read from the text.
"""

import asyncio
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sae_auto_interp.clients.http.capabilities import Capabilities, CapabilityFile
from sae_auto_interp.clients.responses.codec import decode_answer
from sae_auto_interp.config import parse_config
from sae_auto_interp.pipeline.progress.displays import make_progress
from sae_auto_interp.pipeline.run import run_pipeline
from sae_auto_interp.results import ResultStore
from sae_auto_interp.types import Response
from tests.support.embedded_gguf import serve_gguf, write_gguf
from tests.support.saying_model import write_saying_model
from tests.support.transformers_server import transformers_serve

N_FEATURES, N_SHOWN = 2, 1
EXPLANATION = "words of code"
SENTENCE = f"[EXPLANATION]: {EXPLANATION}\n\nVerdict: 1"
"""What answers an explainer's question, and a judge's about one excerpt."""


@pytest.fixture(scope="module")
def saying(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saying")
    write_saying_model(folder, SENTENCE)
    return folder


@pytest.fixture(scope="module")
def llama_cpp(saying: Path) -> Iterator[str]:
    write_gguf(saying, saying / "saying.gguf", "saying")
    with serve_gguf(saying / "saying.gguf", "saying", n_ctx=4096) as address:
        yield f"{address}/v1"


@pytest.fixture(scope="module")
def serve(saying: Path) -> Iterator[str]:
    with transformers_serve(saying) as address:
        yield address


def run(root: Path, base_url: str, model: str) -> Capabilities:
    """Explain two features of the embedded autoencoder, and score by detection and fuzzing."""
    scorers = [{"name": name, "n_shown": N_SHOWN} for name in ("detection", "fuzzing")]
    pools = {"n_train": 6, "n_test": 2, "n_quantiles": 2, "n_non_activating_train": 4, "n_non_activating_test": 2}
    config = parse_config(
        {
            "model": "embedded:language_model",
            "device": "cpu",
            "autoencoders": ["embedded:sparse_coders/openai"],
            "data": {"n_tokens": 6_000, "ctx_len": 64, "max_chars_per_document": 3_000},
            "preflight": {"enabled": False},
            "n_lexical": 0,
            "features": {"n_features": N_FEATURES, "min_examples": 10, **pools},
            "explainers": [{"name": "simple", "structured": False, "judge": {"name": "llm", "top_logprobs": 20}}],
            "scorers": scorers,
            "client": {"base_url": base_url, "model": model, "max_concurrency": 2},
        }
    )
    with make_progress() as progress:
        asyncio.run(run_pipeline(config, root, progress))
    known = CapabilityFile(root / "clients", base_url, model).load()
    assert known is not None
    return known


def check_all_scored(root: Path, capabilities: Capabilities) -> list[bool]:
    """Every feature is explained and scored, with its controls; returns all predictions."""
    with ResultStore.open(root / "results.sqlite", read_only=True) as store:
        assert store.failures() == []
        assert {explanation.text for _, explanation in store.explanations()} == {EXPLANATION}
        scores = [score for _, score in store.scores()]
        assert store.info()["client_capabilities"].endswith(f": {capabilities.summary()}")
    assert len(scores) == 2 * 3 * N_FEATURES, "two scorers: the feature's own explanation, another's, and none"
    trials = [trial for score in scores for trial in score.trials]
    assert len(trials) == 4 * len(scores)
    assert not [trial.failure for trial in trials if trial.failure is not None]
    return [trial.prediction for trial in trials if trial.prediction is not None]


def stored_verdicts() -> list[Response]:
    """Answers to the judge, as they came from the server: those that are no explanation."""
    path = Path(os.environ["SAE_AUTO_INTERP_CACHE"]) / "responses.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        found = [decode_answer(content) for (content,) in connection.execute("SELECT content FROM responses")]
    answers = [each for each in found if isinstance(each, Response)]
    assert len(answers) > N_FEATURES
    return sorted(answers, key=lambda each: each.logprobs is not None)[-(len(answers) - N_FEATURES) :]


def test_through_llama_cpp_answers_are_bound_to_their_schema(llama_cpp: str, tmp_path: Path) -> None:
    capabilities = run(tmp_path, llama_cpp, "saying")
    assert capabilities.json_schema
    assert capabilities.top_logprobs == 20
    assert capabilities.prompt_logprobs is None
    assert (capabilities.n, capabilities.max_tokens) == (False, True), "two answers need two slots, and it has one"
    assert len(check_all_scored(tmp_path, capabilities)) == 48
    for verdict in stored_verdicts():
        assert verdict.logprobs is not None, "the judge asked for them"
        assert json.loads(verdict.text)["verdicts"] in ([0], [1])
        assert all(token.logprob <= 0 and len(token.alternatives) >= 20 for token in verdict.logprobs)


def test_through_transformers_serve_verdicts_are_read_from_the_text(serve: str, saying: Path, tmp_path: Path) -> None:
    capabilities = run(tmp_path, serve, str(saying))
    assert not capabilities.json_schema
    assert capabilities.top_logprobs == 0
    assert capabilities.prompt_logprobs is None
    assert (capabilities.n, capabilities.choice_field, capabilities.max_tokens) == (False, None, True)
    assert set(check_all_scored(tmp_path, capabilities)) == {True}, "the sentence ends in a verdict of 1"
    assert {verdict.logprobs for verdict in stored_verdicts()} == {None}, "what is absent is not asked for"
    remembered = json.loads(next((tmp_path / "clients").iterdir()).read_text())
    assert remembered["capabilities"]["json_schema"] is False
