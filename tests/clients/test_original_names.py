"""`Local`, `OpenRouter` and `Outlines`: built as in the original library's scripts, answering as clients do here."""

import json

import pytest

from sae_auto_interp.clients import Local, OpenRouter, Outlines
from sae_auto_interp.errors import MalformedReplyError
from sae_auto_interp.protocols import Client, Provider
from sae_auto_interp.types import Message, Request, Sampling
from tests.support.embedded_gguf import embedded_language_model
from tests.support.llm_server import QUESTION, LlmServer, Received, Reply, answer, ask, json_reply

KEY = "sk-or-planted-0123456789"


def test_local_is_built_by_position_and_sends_no_key_of_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert Local("judge").base_url == "http://localhost:8000/v1"
    with LlmServer([answer("yes")]) as server:
        assert ask(Local("judge", server.base_url))[0].text == "yes"
        assert "Authorization" not in server.requests[0].headers
        assert server.requests[0].body["model"] == "judge"


def test_openrouter_takes_the_key_by_hand_or_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "from-the-environment")
    with LlmServer([answer("yes"), answer("yes")]) as server:
        by_hand = OpenRouter("judge", api_key=KEY, base_url=f"{server.base_url}/chat/completions")
        ask(by_hand)
        ask(OpenRouter("judge", base_url=server.base_url))
        sent = [received.headers["Authorization"] for received in server.requests]
        paths = {received.path for received in server.requests}
    assert sent == [f"Bearer {KEY}", "Bearer from-the-environment"]
    assert paths == {"/v1/chat/completions"}
    assert KEY not in repr(by_hand) + repr(vars(by_hand))
    assert OpenRouter("judge").base_url == "https://openrouter.ai/api/v1"


def outlines_server(received: Received) -> Reply:
    """Gives back the prompt and what follows it, as vLLM's first server did."""
    assert received.path == "/generate"
    follows = json.dumps({"fits": True}) if "schema" in received.body else "[1, 0]"
    return json_reply({"text": [received.body["prompt"] + follows]})


def test_outlines_sends_prompt_and_schema_and_takes_the_prompt_off_again() -> None:
    request = Request((Message("system", "Judge."), Message("user", "Is it?")), Sampling(0.5, 9, seed=3), '{"type": 1}')
    with LlmServer(outlines_server) as server:
        client = Outlines(str(embedded_language_model()), server.root)
        bound, free = ask(client, request, QUESTION)
        body = next(received.body for received in server.requests if "schema" in received.body)
    assert (bound.text, free.text) == ('{"fits": true}', "[1, 0]")
    assert body == {
        "prompt": "Judge.\n\nIs it?\n\n", "max_tokens": 9, "temperature": 0.5, "seed": 3, "schema": {"type": 1},
    }  # fmt: skip


def test_what_is_no_answer_of_outlines_is_an_error() -> None:
    for wrong in ({"text": ["something else"]}, {"text": []}, {"error": "?"}):
        with (
            LlmServer([json_reply(wrong)]) as server,
            pytest.raises(MalformedReplyError, match="begin with the prompt"),
        ):
            ask(Outlines("no such model", server.root))


def test_they_are_providers() -> None:
    for client in (Local("m"), OpenRouter("m"), Outlines("m")):
        assert isinstance(client, Client)
        assert isinstance(client, Provider)
