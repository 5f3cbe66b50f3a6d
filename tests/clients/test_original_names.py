"""`Local` and `OpenRouter`: built as in the original library's scripts, answering as clients do here."""

import pytest

from sae_auto_interp.clients import Local, OpenRouter
from sae_auto_interp.protocols import Client, Provider
from tests.support.llm_server import LlmServer, answer, ask

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


def test_they_are_providers() -> None:
    for client in (Local("m"), OpenRouter("m")):
        assert isinstance(client, Client)
        assert isinstance(client, Provider)
