"""Replaying costs nothing and fails where it would have to ask; the lock on paid calls holds."""

from pathlib import Path

import pytest

from sae_auto_interp.clients import CachingClient, OpenAIClient, ReplayClient, ResponseStore, ScriptedClient
from sae_auto_interp.errors import NotStoredError, RefusedRequestError
from sae_auto_interp.types import Message, Request
from tests.support.llm_server import QUESTION, LlmServer, answer, ask


def test_stored_answers_are_replayed_and_others_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "responses.sqlite"
    with ResponseStore(path) as store:
        first = ask(CachingClient(ScriptedClient(["yes"], model="judge"), store))
    with ResponseStore(path) as store:
        client = CachingClient(ReplayClient(model="judge"), store)
        assert ask(client) == first
        with pytest.raises(
            NotStoredError, match="no answer of judge to the request that ends with 'never asked'"
        ) as it:
            ask(client, Request((Message("user", "never asked"),)))
    assert not it.value.is_retryable
    assert it.value.may_heal


def test_the_tests_can_pay_for_nothing() -> None:
    with pytest.raises(RefusedRequestError, match=r"SAE_AUTO_INTERP_NO_PAID_CALLS is set, and api\.example may charge"):
        ask(OpenAIClient(base_url="https://api.example/v1", model="judge"))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_may_be_asked(host: str) -> None:
    with LlmServer([answer("yes")]) as server:
        base_url = server.base_url.replace("127.0.0.1", host)
        assert ask(OpenAIClient(base_url=base_url, model="judge"), QUESTION)[0].text == "yes"
