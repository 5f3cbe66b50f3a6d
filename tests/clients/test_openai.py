"""OpenAIClient over real sockets: what it sends, what it reads, and which error each fault becomes."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable

import pytest

from sae_auto_interp.clients import OpenAIClient
from sae_auto_interp.errors import (
    BrokenReplyError,
    ClientError,
    InputError,
    MalformedReplyError,
    NoAccessError,
    RateLimitedError,
    RefusedRequestError,
    ServerError,
    TimeoutExceededError,
    UnknownNameError,
    UnreachableError,
)
from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Message, Request, Response, Sampling, TokenLogprob, Usage
from tests.support.llm_server import (
    QUESTION,
    LlmServer,
    Received,
    Reply,
    Script,
    answer,
    ask,
    chat,
    connection_reset,
    error,
    json_reply,
    rate_limited,
    stalled,
    truncated,
)

SCHEMA = '{"type": "object", "properties": {"fits": {"type": "boolean"}}, "required": ["fits"]}'


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def client_of(server: LlmServer, model: str = "judge", timeout_seconds: float = 10.0) -> OpenAIClient:
    return OpenAIClient(base_url=server.base_url, model=model, timeout_seconds=timeout_seconds)


def ask_scripted(script: Script, request: Request = QUESTION, timeout_seconds: float = 10.0) -> Response:
    with LlmServer(script) as server:
        return ask(client_of(server, timeout_seconds=timeout_seconds), request)[0]


def check(client: OpenAIClient) -> None:
    async def checked() -> None:
        try:
            await client.check()
        finally:
            await client.close()

    asyncio.run(checked())


def body_of(request: Request) -> dict[str, object]:
    with LlmServer([answer("yes")]) as server:
        ask(client_of(server), request)
        return server.requests[0].body


# --- what is sent and what is read ---


def test_a_plain_request_sends_the_messages_and_the_sampling_and_nothing_else() -> None:
    request = Request((Message("system", "Be brief."), Message("user", "ünï\n«»")), Sampling(0.7, 33))
    assert body_of(request) == {
        "model": "judge",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "ünï\n«»"}],
        "temperature": 0.7,
        "max_tokens": 33,
    }


def test_seed_schema_and_logprobs_are_sent_when_the_request_has_them() -> None:
    body = body_of(Request(QUESTION.messages, Sampling(seed=5), schema=SCHEMA, top_logprobs=4))
    assert body["seed"] == 5
    assert (body["logprobs"], body["top_logprobs"]) == (True, 4)
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": json.loads(SCHEMA)},
    }


def test_a_lone_surrogate_in_a_prompt_is_sent_and_not_a_crash() -> None:
    assert body_of(Request((Message("user", "half of \ud83d"),)))["messages"] == [
        {"role": "user", "content": "half of \ud83d"}
    ]


def test_the_answer_carries_text_usage_finish_reason_and_the_model_that_answered() -> None:
    response = ask_scripted([answer(" yes\n", finish_reason="length")])
    assert response == Response(" yes\n", Usage(11, 7, 1), "length", "scripted", None)


def test_logprobs_come_with_their_alternatives() -> None:
    top = [{"token": "yes", "logprob": -0.1}, {"token": "no", "logprob": -2.5}, {"token": "no", "logprob": -9}]
    content = [{"token": "yes", "logprob": -0.1, "bytes": [121], "top_logprobs": top}, {"token": "!", "logprob": -1}]
    response = ask_scripted([answer("yes!", logprobs={"content": content})])
    assert response.logprobs == (TokenLogprob("yes", -0.1, {"yes": -0.1, "no": -2.5}), TokenLogprob("!", -1.0, {}))


@pytest.mark.parametrize("logprobs", [None, {}, {"content": None}, {"content": []}])
def test_a_server_that_ignores_logprobs_gives_none(logprobs: object) -> None:
    request = Request(QUESTION.messages, top_logprobs=3)
    assert ask_scripted([answer("yes", logprobs=logprobs)], request).logprobs is None


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None, "completion_tokens": "?"}, []])
def test_a_usage_that_says_nothing_is_unknown_and_not_nothing(usage: object) -> None:
    response = ask_scripted([chat({"message": {"content": "yes"}}, usage)])
    assert response.usage == Usage(n_requests=1, n_uncounted=1)
    assert response.finish_reason == "unknown"


def test_concurrent_requests_each_keep_their_own_settings() -> None:
    def echo(received: Received) -> Reply:
        return answer(json.dumps([received.body["max_tokens"], received.body["temperature"]]))

    requests = [Request(QUESTION.messages, Sampling(n / 10, n)) for n in range(1, 9)]
    with LlmServer(echo) as server:
        responses = ask(client_of(server), *requests)
    assert [json.loads(response.text) for response in responses] == [[n, n / 10] for n in range(1, 9)]


def test_the_client_itself_limits_no_concurrency() -> None:
    everyone = threading.Barrier(120, timeout=20)

    def wait_for_everyone(received: Received) -> Reply:
        everyone.wait()
        return answer("here")

    with LlmServer(wait_for_everyone) as server:
        assert len(ask(client_of(server, timeout_seconds=30.0), *[QUESTION] * 120)) == 120


def test_a_closed_client_can_be_used_again_in_another_event_loop() -> None:
    with LlmServer([answer("one"), answer("two")]) as server:
        client = client_of(server)
        assert [ask(client)[0].text, ask(client)[0].text] == ["one", "two"]


def test_base_url_keeps_its_query_and_a_trailing_slash_does_not_matter() -> None:
    with LlmServer([answer("yes")]) as server:
        ask(OpenAIClient(base_url=f"{server.root}/deployments/a/?api-version=3", model="judge"))
        assert server.requests[0].path == "/deployments/a/chat/completions?api-version=3"


def test_it_is_a_client() -> None:
    assert isinstance(OpenAIClient(base_url="http://127.0.0.1:1/v1"), Client)


# --- errors ---


def test_a_closed_port_is_unreachable_and_says_what_to_look_at() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        with pytest.raises(UnreachableError, match=rf"{url}/chat/completions.* is the server running\?"):
            ask(OpenAIClient(base_url=url, model="judge"))


@pytest.mark.parametrize("broken", [connection_reset, truncated])
def test_a_broken_connection_is_unreachable(broken: Callable[[], Reply]) -> None:
    with pytest.raises(UnreachableError, match="is the server running"):
        ask_scripted([broken()])


def test_a_stall_beyond_the_timeout_is_named_with_the_timeout() -> None:
    with pytest.raises(TimeoutExceededError, match=r"within 0\.2 s; raise timeout_seconds"):
        ask_scripted([stalled()], timeout_seconds=0.2)


@pytest.mark.parametrize(("header", "seconds"), [(None, None), ("7", 7.0), ("0.5", 0.5), ("soon", None)])
def test_429_is_rate_limited_with_the_servers_waiting_time(header: str | None, seconds: float | None) -> None:
    with pytest.raises(RateLimitedError, match="429: slow down") as caught:
        ask_scripted([rate_limited(header)])
    assert caught.value.retry_after_seconds == seconds


@pytest.mark.parametrize("status", [500, 502, 503, 529, 408, 409])
def test_statuses_that_pass_with_time_are_retryable_server_errors(status: int) -> None:
    with pytest.raises(ServerError, match=f"{status}: busy") as caught:
        ask_scripted([error(status, "busy")])
    assert caught.value.is_retryable


@pytest.mark.parametrize("status", [400, 403, 404, 413, 422, 307])
def test_other_statuses_refuse_the_request_with_the_servers_own_message(status: int) -> None:
    with pytest.raises(RefusedRequestError, match=f"{status}: context too long") as caught:
        ask_scripted([error(status, "context too long")])
    assert not caught.value.is_retryable


def test_a_long_server_message_is_shortened() -> None:
    with pytest.raises(RefusedRequestError) as caught:
        ask_scripted([Reply(400, b"<html>\n" + b"x" * 10_000)])
    assert len(str(caught.value)) < 600
    assert "<html> xxx" in str(caught.value)


def test_401_without_a_key_names_the_environment_variable() -> None:
    with pytest.raises(NoAccessError, match="the environment variable OPENAI_API_KEY is not set"):
        ask_scripted([error(401, "who are you?")])


@pytest.mark.parametrize("code", ["insufficient_quota", "billing_hard_limit_reached"])
def test_what_is_about_the_account_is_no_access(code: str) -> None:
    with pytest.raises(NoAccessError, match="402: no money"):
        ask_scripted([error(402, "no money")])
    with pytest.raises(NoAccessError, match="429: used up"):
        ask_scripted([json_reply({"error": {"message": "used up", "code": code}}, 429)])


def test_404_at_a_base_url_without_v1_says_so() -> None:
    with (
        LlmServer([error(404, "no such page")]) as server,
        pytest.raises(RefusedRequestError, match="has no /v1") as it,
    ):
        ask(OpenAIClient(base_url=server.root, model="judge"))
    assert f"{server.root}/v1" in str(it.value)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(200, b"<html>welcome</html>"), "not JSON: <html>welcome"),
        (Reply(200, b""), r"not JSON: \(empty body\)"),
        (Reply(200, b"\xff\xfe\xfa"), "not JSON"),
        (json_reply(["a", "list"]), "no choices"),
        (json_reply({"choices": []}), "no choices"),
        (json_reply({"error": {"message": "upstream is down"}}), "no choices.*upstream is down"),
        (Reply(200, b"this is not gzip", {"Content-Encoding": "gzip"}), "cannot be read"),
    ],
)
def test_a_200_that_is_no_completion_is_a_broken_reply_and_worth_another_try(reply: Reply, said: str) -> None:
    with pytest.raises(BrokenReplyError, match=said) as caught:
        ask_scripted([reply])
    assert caught.value.is_retryable
    assert caught.value.is_maybe_billed


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (answer(None), "not text but NoneType"),
        (answer(""), "is empty"),
        (answer("", finish_reason="length"), "raise max_tokens"),
        (chat({"finish_reason": "stop"}), "not text but NoneType"),
        (chat({"message": {"content": [{"type": "reasoning", "text": "hm"}]}}), "is empty"),
        (chat({"message": {"content": [{"type": "refusal", "refusal": "I will not."}]}}), "refused to answer: I will"),
        (chat({"message": {"content": {"type": "image"}}}), "not text but dict"),
        (chat({"message": {"content": None, "refusal": "I will not."}}), "refused to answer: I will not"),
    ],
)
def test_a_completion_without_an_answer_is_malformed(reply: Reply, said: str) -> None:
    with pytest.raises(MalformedReplyError, match=said) as caught:
        ask_scripted([reply])
    assert not caught.value.is_retryable


def test_a_completion_without_an_answer_says_what_it_cost() -> None:
    with pytest.raises(MalformedReplyError) as caught:
        ask_scripted([answer("")])
    assert (caught.value.prompt_tokens, caught.value.completion_tokens) == (11, 7)


def test_where_no_connection_was_made_nothing_can_be_billed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(UnreachableError) as refused:
        ask(OpenAIClient(base_url=f"http://127.0.0.1:{port}/v1", model="judge"))
    assert not refused.value.is_maybe_billed
    with pytest.raises(UnreachableError) as broken:
        ask_scripted([truncated()])
    assert broken.value.is_maybe_billed


def test_a_schema_that_is_not_json_is_a_client_error_and_is_not_sent() -> None:
    with LlmServer([]) as server, pytest.raises(RefusedRequestError, match="schema of the request is not JSON"):
        ask(client_of(server), Request(QUESTION.messages, schema="{fits: yes}"))
    assert server.requests == []


def test_without_a_model_generate_refuses() -> None:
    with pytest.raises(RefusedRequestError, match="set model, or await check"):
        ask(OpenAIClient(base_url="http://127.0.0.1:1/v1"))


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000/v1", "ftp://host/v1", "http://", "http://[::1"])
def test_a_base_url_that_cannot_be_used_is_refused_when_built(url: str) -> None:
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:8000/v1"):
        OpenAIClient(base_url=url)


def test_a_timeout_of_zero_is_refused_when_built() -> None:
    with pytest.raises(InputError, match=r"timeout_seconds is 0\.0"):
        OpenAIClient(base_url="http://127.0.0.1:1/v1", timeout_seconds=0.0)


# --- check ---


def models(*ids: str) -> Reply:
    return json_reply({"object": "list", "data": [{"id": model, "object": "model"} for model in ids]})


@pytest.mark.parametrize("listed", ["judge", "judge:latest", "models/judge"])
def test_check_accepts_a_listed_model(listed: str) -> None:
    with LlmServer([models("other", listed)]) as server:
        check(client_of(server))
        assert (server.requests[0].method, server.requests[0].path) == ("GET", "/v1/models")


def test_check_names_the_nearest_model() -> None:
    with LlmServer([models("judge-large", "embedder")]) as server, pytest.raises(UnknownNameError) as caught:
        check(client_of(server, model="judge-larg"))
    assert "did you mean 'judge-large'?" in str(caught.value)
    assert server.base_url in str(caught.value)


@pytest.mark.parametrize("unnamed", ["", None])
def test_check_chooses_the_only_model_when_none_is_named(unnamed: str | None) -> None:
    with LlmServer([models("tiny"), answer("yes")]) as server:
        client = OpenAIClient(base_url=server.base_url, model=unnamed)
        check(client)
        assert client.model == "tiny"
        ask(client)
        assert server.requests[1].body["model"] == "tiny"


def test_check_lists_the_models_when_it_cannot_choose() -> None:
    with (
        LlmServer([models("b", "a")]) as server,
        pytest.raises(InputError, match=r"lists 2 models \(a, b\); set model"),
    ):
        check(OpenAIClient(base_url=server.base_url))


@pytest.mark.parametrize("unlisted", [Reply(200, b"hello"), json_reply({"data": "?"}), models()])
def test_check_takes_a_server_at_its_word_that_answers_without_a_list(unlisted: Reply) -> None:
    with LlmServer([unlisted, unlisted]) as server:
        check(client_of(server))
        with pytest.raises(InputError, match=r"lists 0 models \(none\)"):
            check(OpenAIClient(base_url=server.base_url))


@pytest.mark.parametrize("status", [403, 404, 405, 501])
def test_check_accepts_a_server_that_lists_nothing_but_chats(status: int) -> None:
    with LlmServer([error(status), error(400, "messages is required")]) as server:
        check(client_of(server))
        assert [received.path for received in server.requests] == ["/v1/models", "/v1/chat/completions"]


def test_check_refuses_a_path_at_which_nothing_is() -> None:
    with LlmServer(lambda received: error(404)) as server, pytest.raises(RefusedRequestError, match="has no /v1"):
        check(OpenAIClient(base_url=server.root, model="judge"))


@pytest.mark.parametrize(
    ("reply", "kind"),
    [(connection_reset(), UnreachableError), (error(401), NoAccessError), (error(503), ServerError)],
)
def test_check_raises_what_generate_raises(reply: Reply, kind: type[ClientError]) -> None:
    with LlmServer(lambda _: reply) as server, pytest.raises(kind):
        check(client_of(server))
