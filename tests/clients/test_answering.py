"""Names of one model, and of another; another is told of once."""

import asyncio

import pytest

from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.clients.wrappers.answering_model import AnsweringModels, is_same_model
from sae_auto_interp.types import Response, Usage
from tests.support.llm_server import QUESTION


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("my-model", "my-model"),
        ("openai/gpt-4o", "gpt-4o-2024-08-06"),
        ("gpt-4o", "openai/gpt-4o"),
        ("gpt-4", "gpt-4-0613"),
        ("models/gemini-x", "gemini-x"),
        ("gemini-x", "models/gemini-x-001"),
        ("llama3", "llama3:latest"),
        ("llama3", "llama3:8b"),
        ("llama3:8b", "llama3:8b"),
        ("x/y:free", "x/y"),
        ("big-70b", "big-70b@2025-01-01"),
        ("/models/SmolLM2-135M-Instruct", "SmolLM2-135M-Instruct"),
        ("smollm2-135m", "/data/hub/models--HuggingFaceTB--SmolLM2-135M/snapshots/12fd25f"),
        ("C:\\models\\tiny", "tiny"),
        ("tiny", "tiny.Q4_K_M.gguf"),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b-instruct"),
        ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022"),
        ("anthropic/claude-haiku-4.5", "claude-haiku-4-5-20251001"),
        ("accounts/fireworks/models/llama-v3p1-8b-instruct", "llama-v3p1-8b-instruct"),
        ("command-r", "command-r-08-2024"),
    ],
)
def test_one_model_has_many_names(asked: str, answered: str) -> None:
    assert is_same_model(asked, answered)
    assert is_same_model(answered, asked)


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("big-70b", "tiny-1b"),
        ("gpt-4o", "gpt-4o-mini"),
        ("gpt-4", "gpt-4.1"),
        ("gpt-4", "gpt-3.5"),
        ("gpt-4o-2024-08-06", "gpt-4o-2024-05-13"),
        ("llama3:8b", "llama3:70b"),
        ("llama-3", "llama-3-70b"),
        ("qwen2.5-7b", "qwen2-7b"),
        ("openai/gpt-4o", "openai/o1"),
        ("models/a", "models/b"),
        ("claude-3-5-sonnet", "claude-3-5-haiku"),
    ],
)
def test_another_model_has_another_name(asked: str, answered: str) -> None:
    assert not is_same_model(asked, answered)
    assert not is_same_model(answered, asked)


def test_it_is_told_once_for_each_name() -> None:
    models = ["big-70b", "tiny-1b", "tiny-1b", "big-70b-20250101", "other", "tiny-1b"]
    told: list[str] = []
    client = AnsweringModels(
        ScriptedClient([Response("yes", Usage(), "stop", model) for model in models], model="big-70b"),
        tell=told.append,
    )

    async def ask_all() -> None:
        for _ in models:
            await client.generate(QUESTION)

    asyncio.run(ask_all())
    assert told == ["tiny-1b", "other"]
