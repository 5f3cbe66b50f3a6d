"""The model in this process, against an independent forward pass of the same weights: one text, no batch, no cache."""

import asyncio
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from sae_auto_interp.clients import TransformersClient
from sae_auto_interp.clients.in_process.batching import Batcher
from sae_auto_interp.clients.in_process.causal_lm import CausalLanguageModel, conversation_ids
from sae_auto_interp.clients.transformers import batches_by_length
from sae_auto_interp.errors import (
    InputError,
    MalformedReplyError,
    PromptTooLongError,
    RefusedRequestError,
    ServerError,
)
from sae_auto_interp.protocols import Client, PromptReader, Provider
from sae_auto_interp.types import Message, PromptLogprobs, PromptRequest, Request, Response, Sampling
from tests.support.embedded_gguf import embedded_language_model
from tests.support.embedded_reference import (
    greedy,
    next_logprobs,
    piece_of,
    rate,
    rate_ids,
    reference_tokenizer,
)
from tests.support.llm_server import ask
from tests.support.saying_model import SENTENCE, write_saying_model

PROMPTS = ("import os", "def read(self, path):\n    return", "x = [1, 2, 3", 'class A:\n    """A thing')
TEXTS = ("import os\n\nclass Reader:\n", "x", "é ü «it's» 😀 \n  end", "  for i in range(10):\n        print(i)\n")
FLOAT32_TOLERANCE = 2e-4
"""Of a log-probability: float32 logits against the same model's, rounded in another order."""


def client(**settings: object) -> TransformersClient:
    return TransformersClient(model=str(embedded_language_model()), device="cpu", **settings)  # type: ignore[arg-type]


def request(text: str, max_tokens: int = 6, temperature: float = 0.0, seed: int | None = None, top: int = 0) -> Request:
    return Request((Message("user", text),), Sampling(temperature, max_tokens, seed), top_logprobs=top)


def read(reader: TransformersClient, *requests: PromptRequest) -> list[PromptLogprobs]:
    async def together() -> list[PromptLogprobs]:
        try:
            return await asyncio.gather(*(reader.read(each) for each in requests))
        finally:
            await reader.close()

    return asyncio.run(together())


def test_it_is_a_client_and_a_prompt_reader() -> None:
    for protocol in (Client, PromptReader, Provider):
        assert isinstance(client(), protocol)


def test_greedy_text_of_a_batch_is_that_of_each_prompt_alone() -> None:
    lengths = (5, 1, 9, 3)
    responses = ask(client(), *(request(text, n) for text, n in zip(PROMPTS, lengths, strict=True)))
    for response, text, n in zip(responses, PROMPTS, lengths, strict=True):
        expected = greedy(text + "\n\n", n)  # without a chat template, texts stand one below the other
        assert response.text == "".join(map(piece_of, expected))
        assert response.finish_reason == "length"
        assert response.usage.completion_tokens == n
        assert response.logprobs is None


def test_logprobs_of_generated_tokens_are_those_of_the_model() -> None:
    (response, _) = ask(client(), request(PROMPTS[0], 4, top=5), request(PROMPTS[1], 4))
    assert response.logprobs is not None
    assert "".join(token.token for token in response.logprobs) == response.text
    written = greedy(PROMPTS[0] + "\n\n", 4)
    rated = rate_ids([*reference_tokenizer().encode(PROMPTS[0] + "\n\n").ids, *written])
    start = len(rated.ids) - 4
    for i, token in enumerate(response.logprobs, start):
        assert token.logprob == pytest.approx(rated.of_token(i), abs=FLOAT32_TOLERANCE)
        np.testing.assert_allclose(
            list(token.alternatives.values()), list(rated.likeliest(i, 5).values()), atol=FLOAT32_TOLERANCE
        )
        assert token.logprob == max(token.alternatives.values())


def test_prompt_logprobs_are_those_of_a_direct_forward_pass() -> None:
    """Texts of all lengths in one batch; the tokens make up the text, bytes of one character too."""
    for text, result in zip(TEXTS, read(client(), *(PromptRequest(text, 3) for text in TEXTS)), strict=True):
        rated = rate(text)
        assert "".join(token.token for token in result.tokens) == text
        assert len(result.tokens) == len(rated.ids)
        assert math.isnan(result.tokens[0].logprob)
        expected = [rated.of_token(i) for i in range(1, len(rated.ids))]
        np.testing.assert_allclose([t.logprob for t in result.tokens[1:]], expected, atol=FLOAT32_TOLERANCE)
        for i, token in enumerate(result.tokens[1:], 1):
            likeliest = sorted(rated.likeliest(i, 3).values())
            if len(token.alternatives) == 3:  # two bytes may print alike
                np.testing.assert_allclose(sorted(token.alternatives.values()), likeliest, atol=FLOAT32_TOLERANCE)
        assert result.usage.prompt_tokens == len(rated.ids)


def test_ratings_follow_the_order_of_the_text() -> None:
    """A reader that mixed up its rows or positions would not find the usual likelier than the odd."""
    usual, odd = read(client(), PromptRequest("import os\nimport sys\n"), PromptRequest("import os\nimport }}\n"))
    assert sum(t.logprob for t in usual.tokens[1:]) > sum(t.logprob for t in odd.tokens[1:]) + 3


def sampled(batch: int, *requests: Request) -> list[Response]:
    return ask(client(max_batch=batch, gather_seconds=0.05), *requests)


def test_a_sample_depends_on_its_request_and_not_on_its_batch() -> None:
    wanted = [request(text, 12, temperature=1.0, seed=seed) for text in PROMPTS for seed in (1, 2)]
    together = [response.text for response in sampled(8, *wanted)]
    alone = [response.text for response in sampled(1, *wanted)]
    reversed_order = [response.text for response in sampled(8, *wanted[::-1])][::-1]
    assert together == alone == reversed_order
    assert len(set(together)) > len(PROMPTS), "another seed gives another text"


def test_samples_follow_the_probabilities_of_the_model() -> None:
    """First tokens at temperature 1, against the model's own distribution."""
    n = 300
    responses = ask(client(max_batch=100), *(request(PROMPTS[0], 1, 1.0, seed) for seed in range(n)))
    first = next_logprobs(PROMPTS[0] + "\n\n")
    likeliest = int(first.argmax())
    p = math.exp(float(first[likeliest]))
    share = sum(response.text == piece_of(likeliest) for response in responses) / n
    assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / n)


def test_a_chat_template_is_used_and_the_end_of_text_ends(tmp_path: Path) -> None:
    write_saying_model(tmp_path)
    saying = TransformersClient(model=str(tmp_path), device="cpu")
    system = Request((Message("system", "Be brief."), Message("user", "Well?")), Sampling(max_tokens=50))
    (response,) = ask(saying, system)
    assert (response.text, response.finish_reason) == (SENTENCE, "stop")
    loaded = CausalLanguageModel.load(str(tmp_path), "cpu", "auto")
    assert loaded.tokenizer.decode(conversation_ids(loaded.tokenizer, system.messages)) == "Be brief.\nWell?\n"


def test_a_template_that_knows_no_system_message_gets_it_in_front_of_the_user(tmp_path: Path) -> None:
    shutil.copytree(embedded_language_model(), tmp_path, dirs_exist_ok=True)
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    (tmp_path / "chat_template.jinja").write_text(refusing + "U:{{ messages[0]['content'] }}")
    loaded = CausalLanguageModel.load(str(tmp_path), "cpu", "auto")
    ids = conversation_ids(loaded.tokenizer, (Message("system", "Be brief."), Message("user", "Well?")))
    assert loaded.tokenizer.decode(ids) == "U:Be brief.\n\nWell?"


def test_what_does_not_fit_is_refused_and_the_others_of_its_batch_are_not() -> None:
    async def both() -> list[object]:
        reader = client(gather_seconds=0.05)
        texts = ("x = 1\n" * 100, "x = 1\n", "\ud83d", "")
        try:
            return await asyncio.gather(*(reader.read(PromptRequest(text)) for text in texts), return_exceptions=True)
        finally:
            await reader.close()

    too_long, fitting, broken, empty = asyncio.run(both())
    assert isinstance(fitting, PromptLogprobs)
    assert all(isinstance(each, RefusedRequestError) for each in (too_long, broken, empty))
    with pytest.raises(RefusedRequestError, match="the model reads 128"):
        ask(client(), request("x = 1\n" * 100))


@pytest.mark.parametrize(("n_lines", "max_tokens"), [(24, 500), (24, 32), (1, 128), (100, 1)])
def test_a_prompt_and_answer_beyond_the_positions_are_one_refusal(n_lines: int, max_tokens: int) -> None:
    text = "x = 1\n" * n_lines
    n_prompt = len(reference_tokenizer().encode(text + "\n\n").ids)
    assert n_prompt + max_tokens > 128
    with pytest.raises(PromptTooLongError, match=f"has {n_prompt} tokens.* the model reads 128") as caught:
        ask(client(), request(text, max_tokens=max_tokens))
    assert (caught.value.context_tokens, caught.value.prompt_tokens) == (128, n_prompt)


def test_what_fills_the_positions_is_answered() -> None:
    text = "x = 1\n" * 24
    n_prompt = len(reference_tokenizer().encode(text + "\n\n").ids)
    (response,) = ask(client(), request(text, max_tokens=128 - n_prompt))
    assert response.finish_reason == "length"
    assert response.usage.prompt_tokens + response.usage.completion_tokens == 128
    (filling, beyond) = ("x" * 127, "x" * 400)
    with pytest.raises(PromptTooLongError):
        read(client(), PromptRequest(beyond))
    assert read(client(), PromptRequest(filling))[0].usage.prompt_tokens <= 128


def chat(folder: Path, template: str, **special: object) -> CausalLanguageModel:
    """The saying model with another chat template and other special tokens; its settings name one end alone."""
    from transformers import AutoTokenizer

    write_saying_model(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens(special)  # type: ignore[arg-type]
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return CausalLanguageModel.load(str(folder), "cpu", "auto")


CHATML = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
HEADERS = "{% for m in messages %}<|start|>{{ m['role'] }}<|stop|>{{ m['content'] | trim }}<|eot|>{% endfor %}"
SPACED = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }} <|im_end|>{% endfor %}"
PLAIN = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
REFUSING = (
    "{% if messages[-1]['role'] == 'assistant' %}{{ raise_exception('no') }}{% endif %}{{ messages[0]['content'] }}"
)


@pytest.mark.parametrize(
    ("template", "special", "ends"),
    [
        (PLAIN, {"eos_token": "<|im_end|>"}, ["<|im_end|>"]),
        (CHATML, {"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]}, ["<|im_end|>"]),
        (HEADERS, {"extra_special_tokens": ["<|start|>", "<|stop|>", "<|eot|>"]}, ["<|eot|>"]),
        (SPACED, {"extra_special_tokens": ["<|im_end|>"]}, ["<|im_end|>"]),
        (CHATML, {"eos_token": "<|eos|>", "extra_special_tokens": ["<|im_end|>"]}, ["<|eos|>", "<|im_end|>"]),
        (PLAIN, {"extra_special_tokens": ["<|im_end|>"]}, []),
        (REFUSING, {"extra_special_tokens": ["<|im_end|>"]}, []),
    ],
)
def test_a_turn_ends_with_all_that_settings_tokenizer_and_template_name(
    template: str, special: dict[str, object], ends: list[str], tmp_path: Path
) -> None:
    loaded = chat(tmp_path, template, **special)
    named = {loaded.tokenizer.convert_tokens_to_ids(end) for end in ends}
    assert loaded.end_ids == {loaded.model.generation_config.eos_token_id, *named}


def test_a_token_that_the_model_does_not_have_is_a_refusal(tmp_path: Path) -> None:
    chat(tmp_path, CHATML, extra_special_tokens=["<|im_start|>", "<|im_end|>"])
    asked = TransformersClient(model=str(tmp_path), device="cpu")
    with pytest.raises(RefusedRequestError, match=r"'<\|im_end\|>' as 4097; the model knows ids below 4096"):
        ask(asked, request("Well?"))
    with pytest.raises(RefusedRequestError, match="the model knows ids below 4096"):
        read(asked, PromptRequest("a<|im_start|>b"))


def test_an_answer_stops_at_the_tokenizers_own_end(tmp_path: Path) -> None:
    """The saying model's last token is made the end by the tokenizer alone: the answer ends before it."""
    pieces = write_saying_model(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": pieces[-1]}))
    (response,) = ask(TransformersClient(model=str(tmp_path), device="cpu"), request("Well?", 50))
    assert (response.text, response.finish_reason) == (SENTENCE.removesuffix(pieces[-1]), "stop")


def test_an_empty_answer_is_a_failure(tmp_path: Path) -> None:
    """Its last token is followed by the end of text, so that a prompt which ends in it gets nothing."""
    write_saying_model(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()  # without its chat template
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    with pytest.raises(MalformedReplyError, match="the answer is empty"):
        ask(TransformersClient(model=str(tmp_path), device="cpu"), request("]"))


def test_prepare_loads_and_says_what_there_is(tmp_path: Path) -> None:
    async def prepared(path: Path) -> str:
        each = TransformersClient(model=str(path), device="cpu")
        try:
            return await each.prepare()
        finally:
            await each.close()

    said = asyncio.run(prepared(embedded_language_model()))
    assert said.startswith("in process on cpu, float32; has: top_logprobs, prompt_logprobs")
    with pytest.raises(InputError, match="cannot be loaded"):
        asyncio.run(prepared(tmp_path))


def test_batches_keep_both_bounds() -> None:
    lengths = [int(n) for n in np.random.default_rng(0).integers(1, 300, 200)]
    batches = batches_by_length(lengths, max_rows=7, max_tokens=500)
    assert sorted(i for batch in batches for i in batch) == list(range(200))
    assert all(len(batch) <= 7 and len(batch) * max(lengths[i] for i in batch) <= 500 for batch in batches)
    assert batches_by_length([], 1, 1) == []


def test_an_error_of_the_work_reaches_everyone_who_waits() -> None:
    from concurrent.futures import ThreadPoolExecutor

    def work(batch: object, answer: object) -> None:
        raise ServerError("out of memory")

    async def asked() -> list[object]:
        with ThreadPoolExecutor(1) as thread:
            batcher: Batcher[int, int] = Batcher(work, lambda items: [list(range(len(items)))], 0.0, thread)
            return list(await asyncio.gather(batcher.ask(1), batcher.ask(2), return_exceptions=True))

    assert [type(each) for each in asyncio.run(asked())] == [ServerError, ServerError]


@pytest.mark.parametrize("settings", [{"max_batch": 0}, {"max_batch_tokens": 0}, {"gather_seconds": -1.0}])
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InputError, match="must be at least 1"):
        client(**settings)
