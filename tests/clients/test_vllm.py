"""What is said to vLLM's engine and read from it, with a stand-in of its interface over the embedded model."""

import asyncio
import math
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from sae_auto_interp.clients import VllmClient
from sae_auto_interp.errors import InputError, MissingExtraError, RefusedRequestError
from sae_auto_interp.protocols import Client, PromptReader, Provider
from sae_auto_interp.types import Message, PromptLogprobs, PromptRequest, Request, Sampling
from tests.support import vllm_stub
from tests.support.embedded_gguf import embedded_language_model
from tests.support.embedded_reference import greedy, piece_of, rate
from tests.support.llm_server import ask
from tests.support.saying_model import write_saying_model

PROMPT = "import os"


@pytest.fixture(autouse=True)
def _vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    vllm_stub.install(monkeypatch)


def client(**engine: object) -> VllmClient:
    return VllmClient(model=str(embedded_language_model()), engine=engine)


def request(max_tokens: int = 4, schema: str | None = None, top: int = 0) -> Request:
    return Request((Message("user", PROMPT),), Sampling(0.0, max_tokens, seed=7), schema, top)


def test_each_request_has_its_own_parameters() -> None:
    asked = client(max_model_len=128)
    engine = asked._engine
    free, rated, bound = ask(asked, request(3), request(4, top=5), request(5, schema='{"type": "object"}'))
    assert free.text == "".join(map(piece_of, greedy(PROMPT + "\n\n", 3)))
    assert (free.finish_reason, free.usage.completion_tokens, free.logprobs) == ("length", 3, None)
    assert bound.text == '{"fits": true}'
    assert rated.logprobs is not None
    assert "".join(token.token for token in rated.logprobs) == rated.text
    assert all(len(token.alternatives) == 5 for token in rated.logprobs)
    assert [(each.max_tokens, each.seed, each.logprobs) for each in engine.seen] == [
        (3, 7, None),
        (4, 7, 5),
        (5, 7, None),
    ]
    assert engine.seen[2].structured_outputs.json == {"type": "object"}
    assert (engine.args.max_model_len, engine.is_shut_down) == (128, True)


def test_a_turn_ends_with_what_the_chat_template_writes_behind_an_answer(tmp_path: Path) -> None:
    end = write_saying_model(tmp_path)[-1]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_special_tokens({"extra_special_tokens": [end]})
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}" + end + "\n{% endfor %}"
    tokenizer.save_pretrained(tmp_path)
    asked = VllmClient(model=str(tmp_path))
    engine = asked._engine
    ask(asked, request(3))
    assert engine.seen[0].stop_token_ids == [tokenizer.convert_tokens_to_ids(end)]


def test_code_that_comes_with_a_model_is_never_run() -> None:
    with pytest.raises(InputError, match=r"client\.engine\.trust_remote_code"):
        client(trust_remote_code=True)


def test_prompt_logprobs_are_the_engines_and_make_up_the_text() -> None:
    text = "import os\n# é\n"

    async def read() -> PromptLogprobs:
        reader = client()
        try:
            return await reader.read(PromptRequest(text, top_logprobs=2))
        finally:
            await reader.close()

    result = asyncio.run(read())
    rated = rate(text)
    assert "".join(token.token for token in result.tokens) == text
    assert math.isnan(result.tokens[0].logprob)
    expected = [rated.of_token(i) for i in range(1, len(rated.ids))]
    np.testing.assert_allclose([token.logprob for token in result.tokens[1:]], expected)


def test_what_the_engine_refuses_is_a_refused_request() -> None:
    with pytest.raises(RefusedRequestError, match="maximum model length"):
        ask(client(), Request((Message("user", "x = 1\n" * 100),)))
    with pytest.raises(RefusedRequestError, match="max_tokens must be at least 1"):
        ask(client(), request(0))


def test_without_vllm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vllm_stub.sys.modules, "vllm.engine.arg_utils", None)
    with pytest.raises(MissingExtraError, match=r"sae-auto-interp\[vllm\]"):
        asyncio.run(client().prepare())


def test_it_is_a_client_and_a_prompt_reader() -> None:
    for protocol in (Client, PromptReader, Provider):
        assert isinstance(client(), protocol)
