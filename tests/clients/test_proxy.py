"""Requests go over the proxy that the environment names, or say why they cannot."""

import httpx2
import pytest

from sae_auto_interp.clients import OpenAIClient
from sae_auto_interp.clients.http.connections import proxy_for
from sae_auto_interp.errors import InputError
from tests.support.llm_server import LlmServer, answer, ask

ELSEWHERE = "http://127.0.0.1:9/v1"
"""Nothing listens there."""


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("has_scheme", [True, False])
def test_requests_go_over_the_proxy(variable: str, has_scheme: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with LlmServer([answer("yes")]) as proxy:
        monkeypatch.setenv(variable, proxy.root if has_scheme else proxy.root.removeprefix("http://"))
        (response,) = ask(OpenAIClient(base_url=ELSEWHERE, model="judge"))
        assert len(proxy.requests) == 1
    assert response.text == "yes"


def test_what_is_exempt_is_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with LlmServer([answer("yes")]) as server:
        (response,) = ask(OpenAIClient(base_url=server.base_url, model="judge"))
    assert response.text == "yes"


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("socks5://someone:pw-planted-77@127.0.0.1:1080", r"of another kind than HTTP \(socks5\)"),
        ("http://", "names no host"),
        ("http://127.0.0.1:pw-planted-77", "is no address"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_but_not_shown(
    address: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", address)
    with pytest.raises(InputError, match=f"ALL_PROXY .*{problem}.*NO_PROXY") as caught:
        ask(OpenAIClient(base_url=ELSEWHERE, model="judge"))
    assert "pw-planted-77" not in str(caught.value)


def test_each_scheme_has_a_proxy_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "inner:3128")
    assert proxy_for(httpx2.URL("https://example.org/v1")) == "http://inner:3128"
    assert proxy_for(httpx2.URL("http://example.org/v1")) is None
