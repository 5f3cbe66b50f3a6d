"""The key leaves no trace: in whatever way a server writes it, and however it cuts it."""

import asyncio
import base64
import json
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.clients import (
    AnthropicClient,
    CachingClient,
    OpenAIBatchClient,
    OpenAIClient,
    ResponseStore,
    RetryingClient,
)
from sae_auto_interp.clients.http.api_key import ApiKey
from sae_auto_interp.clients.wrappers.patience import Patience, patient_probes
from sae_auto_interp.embedders import OpenAIEmbedder
from sae_auto_interp.errors import ClientError, SaeAutoInterpError
from sae_auto_interp.protocols import Client
from tests.support.anthropic_server import message
from tests.support.llm_server import QUESTION, LlmServer, Received, Reply, answer, ask, chat, error, json_reply

KEY = "sk-Ab12+cd34ef56gh7890"


@pytest.fixture(autouse=True)
def _planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED_KEY", KEY)


def escaped(text: str, digits: str = "04X") -> str:
    return "".join(f"\\u{format(ord(c), digits)}" for c in text)


WRITTEN = {
    "as it is": KEY,
    "one escape": KEY.replace("+", "\\u002B"),
    "every character an escape": escaped(KEY),
    "escapes in small letters": escaped(KEY, "04x"),
    "escaped twice": KEY.replace("+", "\\\\u002b"),
    "in a URL": KEY.replace("+", "%2B"),
    "in HTML": KEY.replace("+", "&#x2b;").replace("-", "&#45;"),
    "in a repr of bytes": KEY.replace("+", "\\\\x2b"),
    "in a URL in a URL": KEY.replace("+", "%252B"),
    "cut": KEY[:12],
    "cut short": KEY[:10] + "...",
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
def test_a_text_has_it_in_no_form(written: str) -> None:
    body = f'{{"choices": [{{"message": {{"content": "your key is {written}"}}}}], "model": "{written}"}}'.encode()
    with LlmServer([Reply(200, body)]) as server:
        (response,) = ask(OpenAIClient(base_url=server.base_url, model="m", api_key_env="PLANTED_KEY"))
    assert response.text.removesuffix("...") == "your key is [redacted]"
    assert response.model.removesuffix("...") == "[redacted]"


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


IN_PARTS = {
    "base64": in_base64(KEY),
    "base64 of a login": in_base64(f"user:{KEY}"),
    "base64 of a login without a name": in_base64(f":{KEY}"),
    "base64 of a login of one letter": in_base64(f"u:{KEY}"),
    "base64 for URLs": base64.urlsafe_b64encode(f"Bearer {KEY}~~".encode()).decode(),
    "base64 in lines": in_base64(KEY)[:14] + "\n" + in_base64(KEY)[14:],
    "in two lines": KEY[:9] + "\n" + KEY[9:],
    "in many": "\n  ".join(KEY[i : i + 4] for i in range(0, len(KEY), 4)),
    "spaced": " ".join(KEY),
    "without its beginning": "..." + KEY[5:],
    "its middle": "..." + KEY[4:-4] + "...",
}


@pytest.mark.parametrize("written", IN_PARTS.values(), ids=IN_PARTS)
def test_neither_parts_nor_base64_of_it_are_shown(written: str) -> None:
    """In an error, in a text, and in a body that is no JSON."""
    key, longest = ApiKey("K", KEY), max(written.split(), key=len).strip(".=")
    decoded = json.loads(key.taken_out_of(json.dumps({"t": f"it is {written} here"}).encode()))["t"]
    for shown in (key.quote(f"it is {written} here"), decoded):
        assert shown.startswith("it is ")
        assert shown.endswith(" here")
        assert "[redacted]" in shown
        assert not {longest[i : i + 12] for i in range(len(longest) - 11)} & {
            "".join(shown.split())[i : i + 12] for i in range(len(shown))
        }


@pytest.mark.parametrize("text", ["7890 and sk-Ab12 alike", "cd34ef5", in_base64("another key of theirs"), "s k - A b"])
def test_a_few_characters_of_it_stay(text: str) -> None:
    assert ApiKey("K", KEY).quote(text) == text


def test_an_answer_that_is_json_in_itself_has_it_in_no_form() -> None:
    """Readers decode it once more."""
    inner = '{"explanation": "KEY"}'.replace("KEY", KEY.replace("+", "\\u002B"))
    with LlmServer([answer(inner)]) as server:
        (response,) = ask(OpenAIClient(base_url=server.base_url, model="m", api_key_env="PLANTED_KEY"))
    assert json.loads(response.text) == {"explanation": "[redacted]"}


def test_the_tokens_of_an_answer_do_not_make_it_together() -> None:
    """The text and its tokens stay the same text, so that confidences are found."""
    pieces = ["a ", "sk-A", "b12+cd34", "ef56gh", "7890", " b"]
    tokens = [{"token": p, "logprob": -0.5, "top_logprobs": [{"token": p, "logprob": -0.5}]} for p in pieces]
    choice = {"message": {"content": "".join(pieces)}, "logprobs": {"content": tokens}}
    with LlmServer([chat(choice)]) as server:
        (response,) = ask(OpenAIClient(base_url=server.base_url, model="m", api_key_env="PLANTED_KEY"))
    assert response.logprobs is not None
    assert "".join(token.token for token in response.logprobs) == response.text == "a [redacted] b"
    assert all(piece not in str(response.logprobs[1:-1]) for piece in pieces[1:-1])


def test_parts_of_a_text_do_not_make_it_together() -> None:
    parts = [{"type": "text", "text": f"it is {KEY[:7]}"}, {"type": "text", "text": f"{KEY[7:]}, is it?"}]
    with LlmServer([json_reply(message(*parts))]) as server:
        (response,) = ask(AnthropicClient(model="m", base_url=server.root, api_key_env="PLANTED_KEY"))
    assert response.text == "it is [redacted], is it?"


def test_the_same_bytes_come_back_where_it_is_not() -> None:
    key = ApiKey("K", KEY)
    for body in (
        b'{"a": [1, 2.0, "b\\u00e9", NaN]}',
        b"\xff\xfe no text",
        b"",
        b"[" * 5000,
        b"sk-Ab12",
        b'{"a": 1}\n{}',
    ):
        assert key.taken_out_of(body) is body


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32-le"])
def test_wide_characters_do_not_hide_it(encoding: str) -> None:
    assert KEY not in json.dumps(json.loads(ApiKey("K", KEY).taken_out_of(json.dumps([KEY]).encode(encoding))))


@pytest.mark.parametrize("secret", ["sk-" + "x" * 300, "a\\b\"c/d'e&f%g-0123", "aaaaaaaaaaaaaaaaaaaa1"])
def test_keys_of_any_signs(secret: str) -> None:
    key = ApiKey("K", secret)
    for text in (secret, json.dumps(secret)[1:-1], json.dumps(json.dumps(secret))[3:-3], secret[: len(secret) - 2]):
        assert key.quote(f"<{text}>") == "<[redacted]>"
        assert json.loads(key.taken_out_of(json.dumps({"t": f"<{text}>"}).encode())) == {"t": "<[redacted]>"}


@pytest.mark.parametrize("word", ["sk", "none", "EMPTY", "dummy", "ollama", "v1", "test", "token"])
def test_a_key_that_is_a_word_spoils_no_text(word: str) -> None:
    key, text = ApiKey("K", word), f"the {word} of the task: {word}, {word}s and other words like {word * 2}"
    assert key.quote(text) == text
    assert key.taken_out_of(text.encode()) == text.encode()


def test_a_short_key_that_is_no_word_is_not_shown() -> None:
    assert ApiKey("K", "pass-1234").taken_out_of(b'{"t": "it is pass-1234"}') == b'{"t": "it is [redacted]"}'
    assert ApiKey("K", "s3cr3t").quote("is s3cr3t right? s3cr3ts are") == "is [redacted] right? s3cr3ts are"


def bodies() -> dict[str, Reply]:
    """What a server may say, with the key in every form."""
    found: dict[str, Reply] = {"model list": json_reply({"data": [{"id": w} for w in (KEY, "b")]})}
    for name, written in WRITTEN.items():
        body = f'{{"error": {{"message": "Incorrect API key: {written}", "code": "{written}"}}}}'.encode()
        found |= {f"{status} {name}": Reply(status, body) for status in (200, 400, 401, 500)}
        found[f"page {name}"] = Reply(200, f"<html>Bearer {written}".encode())
    return found


CLIENTS: dict[str, Any] = {
    "openai": lambda server: OpenAIClient(base_url=server.base_url, model="m", api_key_env="PLANTED_KEY"),
    "unnamed": lambda server: OpenAIClient(base_url=server.base_url, api_key_env="PLANTED_KEY"),
    "anthropic": lambda server: AnthropicClient(model="m", base_url=server.root, api_key_env="PLANTED_KEY"),
    "batch": lambda server: OpenAIBatchClient(
        model="m", base_url=server.base_url, api_key_env="PLANTED_KEY", gather_seconds=0.0, poll_seconds=0.01
    ),
}


def forms_in(content: str) -> list[str]:
    """Ways in which the key, or a long beginning of it, is there."""
    forms = [*WRITTEN.values(), base64.b64encode(KEY.encode()).decode()]
    return [form for form in forms if form in content or form in content.replace("\\\\", "\\")]


@pytest.mark.parametrize("name", CLIENTS)
def test_no_error_of_any_client_shows_it(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for said in bodies().values():
        with LlmServer(lambda received, said=said: said) as server:
            client: Client = RetryingClient(CLIENTS[name](server), attempts=2, base_seconds=0.0)

            async def used(client: Any = client) -> None:
                try:
                    with patient_probes(Patience(attempts=1, give_up_seconds=0.0)):
                        await (
                            client.client.check if isinstance(client.client, OpenAIClient) else client.client.prepare
                        )()
                    await client.generate(QUESTION)
                except SaeAutoInterpError as problem:
                    shown = "".join(traceback.format_exception(problem))
                    assert not forms_in(shown), shown
                finally:
                    await client.close()

            asyncio.run(asyncio.wait_for(used(), 20))
    assert not forms_in(caplog.text)


def test_no_error_of_an_embedder_shows_it() -> None:
    for said in bodies().values():
        with LlmServer(lambda received, said=said: said) as server:
            embedder = OpenAIEmbedder(base_url=server.base_url, model="m", api_key_env="PLANTED_KEY", attempts=1)

            async def embedded(embedder: OpenAIEmbedder = embedder) -> None:
                try:
                    await embedder.embed(["a"])
                finally:
                    await embedder.close()

            with pytest.raises(ClientError) as caught:
                asyncio.run(embedded())
            assert not forms_in("".join(traceback.format_exception(caught.value)))


def test_the_cache_of_answers_holds_no_byte_of_it(tmp_path: Path) -> None:
    bodies = [f'{{"choices": [{{"message": {{"content": "{w}"}}}}], "model": "{w}"}}' for w in WRITTEN.values()]
    replies = iter([Reply(200, body.encode()) for body in bodies] + [answer(KEY, logprobs=None)])

    def next_reply(received: Received) -> Reply:
        return next(replies, error(418))

    with LlmServer(next_reply) as server, ResponseStore(tmp_path / "a.sqlite") as store:
        for i in range(len(bodies) + 1):
            client = OpenAIClient(base_url=server.base_url, model="m", api_key_env="PLANTED_KEY")
            ask(CachingClient(client, store, namespace=str(i)))
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir()).decode("latin-1")
    assert "[redacted]" in content
    assert not forms_in(content)
