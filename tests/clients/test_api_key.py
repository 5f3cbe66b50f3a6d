"""The API key is sent, and is shown nowhere: no repr, no error, no log."""

import asyncio
import json
import logging
import traceback
from collections.abc import Callable

import pytest

from sae_auto_interp.clients import (
    AnthropicClient,
    LimitedClient,
    OpenAIBatchClient,
    OpenAIClient,
    OpenRouter,
    RetryingClient,
)
from sae_auto_interp.clients.http.api_key import ApiKey
from sae_auto_interp.clients.http.reply import Reply as HttpReply
from sae_auto_interp.errors import BrokenReplyError, ClientError, InputError, NoAccessError
from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Message, Request
from tests.support.llm_server import (
    LlmServer,
    Received,
    Reply,
    answer,
    ask,
    chat,
    connection_reset,
    error,
    rate_limited,
)

KEY = "sk-planted-0123456789abcdef"


@pytest.fixture(autouse=True)
def _planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED_KEY", KEY)


def planted_client(server: LlmServer) -> OpenAIClient:
    return OpenAIClient(base_url=server.base_url, model="judge", api_key_env="PLANTED_KEY", timeout_seconds=10.0)


def test_the_key_is_sent_as_it_was_when_the_client_was_built(monkeypatch: pytest.MonkeyPatch) -> None:
    with LlmServer([answer("yes")]) as server:
        client = planted_client(server)
        monkeypatch.setenv("PLANTED_KEY", "another")
        ask(client)
        assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"


def test_without_a_key_no_authorization_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLANTED_KEY")
    with LlmServer([answer("yes")]) as server:
        ask(planted_client(server))
        assert "Authorization" not in server.requests[0].headers


def test_white_space_around_the_key_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED_KEY", f" {KEY}\n")
    with LlmServer([answer("yes")]) as server:
        ask(planted_client(server))
        assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("value", ["two words", "line\nbreak", "clé"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PLANTED_KEY", value)
    with pytest.raises(InputError, match="environment variable PLANTED_KEY") as caught:
        OpenAIClient(base_url="http://127.0.0.1:1/v1", api_key_env="PLANTED_KEY")
    assert value not in str(caught.value)


def test_a_secret_in_the_base_url_is_refused_without_being_shown() -> None:
    with pytest.raises(InputError, match="base_url holds a user name or password") as caught:
        OpenAIClient(base_url=f"http://user:{KEY}@127.0.0.1/v1")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("query", [f"key={KEY}", "api_key=abc", "Token=abc"])
def test_a_secret_in_the_query_of_the_base_url_is_refused_without_being_shown(query: str) -> None:
    with pytest.raises(InputError, match="base_url holds a secret") as caught:
        OpenAIClient(base_url=f"http://127.0.0.1/v1?{query}")
    assert KEY not in str(caught.value)
    assert "abc" not in str(caught.value)
    OpenAIClient(base_url="http://127.0.0.1/v1?api-version=2026-01")


def test_the_key_itself_in_the_path_is_refused_without_being_shown() -> None:
    with pytest.raises(InputError, match="base_url holds the key of PLANTED_KEY") as caught:
        OpenAIClient(base_url=f"http://127.0.0.1/{KEY}/v1", api_key_env="PLANTED_KEY")
    assert KEY not in str(caught.value)


def test_a_short_key_may_be_a_word_of_the_base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """As servers of one's own have it: the name of the service as its key."""
    monkeypatch.setenv("PLANTED_KEY", "ollama")
    assert OpenAIClient(base_url="http://ollama:11434/v1", model="m", api_key_env="PLANTED_KEY").model == "m"


def test_a_header_that_is_none_shows_no_key() -> None:
    """The connection's own error quotes the line; a traceback would show it below ours."""

    async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nno header: {KEY}\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async def asked() -> BaseException | None:
        async with await asyncio.start_server(broken, "127.0.0.1", 0) as server:
            address = "http://{}:{}/v1".format(*server.sockets[0].getsockname())
            client = OpenAIClient(base_url=address, model="judge", api_key_env="PLANTED_KEY")
            try:
                await client.generate(Request((Message("user", "Is it?"),)))
            except ClientError as error:
                return error
            finally:
                await client.close()

    caught = asyncio.run(asked())
    assert caught is not None
    assert "ClientResponseError" in str(caught)
    assert KEY not in "".join(traceback.format_exception(caught))


def test_an_answer_shows_neither_body_nor_headers() -> None:
    reply = HttpReply("http://127.0.0.1/v1", 200, "OK", {"X-Echo": KEY}, KEY.encode())
    assert KEY not in repr(reply)


CLIENTS: dict[str, Callable[[LlmServer], Client]] = {
    "openai": lambda server: planted_client(server),
    "openai_batch": lambda server: OpenAIBatchClient(
        model="judge", base_url=server.base_url, api_key_env="PLANTED_KEY", gather_seconds=0.0
    ),
    "anthropic": lambda server: AnthropicClient(model="judge", base_url=server.root, api_key_env="PLANTED_KEY"),
    "openrouter": lambda server: OpenRouter(model="judge", base_url=server.base_url, api_key_env="PLANTED_KEY"),
}


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("status", [400, 401, 500, 200])
def test_no_client_shows_a_key_that_comes_back(name: str, status: int, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the server says, in its headers too; the key was sent, in the API's own way."""
    caplog.set_level(logging.DEBUG)

    def echo(received: Received) -> Reply:
        body = {"error": {"message": f"{received.headers}", "param": KEY}, "id": KEY, "status": "completed"}
        return Reply(status, json.dumps(body).encode(), {"X-Echo": KEY, "Content-Type": "application/json"})

    with LlmServer(echo) as server, pytest.raises(ClientError) as caught:
        ask(CLIENTS[name](server))
    assert any(KEY in value for received in server.requests for value in received.headers.values())
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caplog.text
    assert KEY[:12] not in shown


def test_a_completion_that_repeats_the_key_does_not_bring_it_into_results() -> None:
    with LlmServer([answer(f"your key is {KEY}")]) as server:
        (response,) = ask(planted_client(server))
    assert response.text == "your key is [redacted]"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_login_of_a_proxy_is_in_no_error(
    scheme: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`https` asks the proxy for a tunnel, which this one does not give; `http` goes through it, and is refused."""
    caplog.set_level(logging.DEBUG)
    with LlmServer(lambda received: error(407, "who are you?")) as proxy:
        address = proxy.root.replace("http://", "http://someone:pw-planted-77@")
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", address)
        monkeypatch.setenv("NO_PROXY", "")
        with pytest.raises(ClientError) as caught:
            ask(OpenAIClient(base_url=f"{scheme}://127.0.0.1:9/v1", model="judge", api_key_env="PLANTED_KEY"))
        assert proxy.requests or scheme == "https"
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "pw-planted-77" not in shown
    assert KEY not in shown


def test_no_repr_shows_the_key() -> None:
    with LlmServer([answer("yes")]) as server:
        client = planted_client(server)
        wrapped = RetryingClient(LimitedClient(client, max_concurrency=2))
        ask(wrapped)
        shown = [repr(client), str(client), repr(wrapped), repr(vars(client))]
    assert all(KEY not in text for text in shown)
    assert "ApiKey('PLANTED_KEY', set)" in shown[-1]


def echo_key(status: int) -> Reply:
    return error(status, f"Incorrect API key provided: {KEY}. You can find yours at https://example.org")


@pytest.mark.parametrize(
    "reply",
    [
        echo_key(401),
        echo_key(429),
        echo_key(500),
        Reply(403, f"plain text with {KEY}".encode()),
        Reply(400, b"x" * 390 + KEY.encode()),  # shortening must not leave the first half of it
        Reply(200, f"not JSON: {KEY}".encode()),
        chat({"message": {"content": None, "refusal": f"not with {KEY}"}, "finish_reason": "stop"}),
    ],
)
def test_no_error_and_no_log_shows_a_key_that_the_server_echoes(reply: Reply, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with LlmServer(lambda received: reply) as server, pytest.raises(ClientError) as caught:
        ask(RetryingClient(planted_client(server), attempts=2, base_seconds=0.0))
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caplog.text
    assert KEY[:12] not in shown
    assert caplog.records, "the log of the HTTP library should have been captured"


def test_the_rest_of_the_message_survives_the_redaction() -> None:
    with LlmServer([echo_key(401)]) as server, pytest.raises(NoAccessError) as caught:
        ask(planted_client(server))
    assert "Incorrect API key provided: [redacted]. You can find" in str(caught.value)


def test_a_key_that_is_also_a_word_of_the_protocol_does_not_spoil_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED_KEY", "token")
    logprobs = {"content": [{"token": "token", "logprob": -1.0}]}
    with LlmServer([answer("token", logprobs=logprobs)]) as server:
        (response,) = ask(planted_client(server))
    assert response.text == "token"
    assert response.logprobs is not None


def test_the_log_of_a_successful_and_of_a_broken_request_shows_no_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    replies = iter([connection_reset(), rate_limited("0"), answer("yes")])

    def next_reply(received: Received) -> Reply:
        return next(replies)

    with LlmServer(next_reply) as server:
        ask(RetryingClient(planted_client(server), base_seconds=0.0))
    assert "attempt 2 of 6 failed" in caplog.text
    assert KEY not in caplog.text


def test_an_answer_without_choices_is_quoted_without_the_key() -> None:
    echo = Reply(200, b'{"your key": "%s"}' % KEY.encode())
    with LlmServer([echo]) as server, pytest.raises(BrokenReplyError, match=r"\[redacted\]") as caught:
        ask(planted_client(server))
    assert KEY not in str(caught.value)


def test_the_http_librarys_own_logs_do_not_show_it(caplog: pytest.LogCaptureFixture) -> None:
    ApiKey("SOME_KEY", "sk-logged-55aa")
    log = logging.getLogger("httpcore2.http11")
    with caplog.at_level(logging.DEBUG, logger="httpcore2.http11"):
        log.debug("receive_response_headers.complete return_value=%r", [(b"X-Echo", b"Bearer sk-logged-55aa")])
        log.debug("100 %")
    assert [record.getMessage() for record in caplog.records] == [
        "receive_response_headers.complete return_value=[(b'X-Echo', b'Bearer [redacted]')]",
        "100 %",
    ]
