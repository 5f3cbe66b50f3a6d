"""Language-model clients: a `Request` goes in, a `Response` or a `ClientError` comes out.

    OpenAIClient         any OpenAI-compatible endpoint over HTTP
    AnthropicClient      Anthropic's Messages API
    Local, OpenRouter, Outlines   the original library's names for three kinds of endpoints
    TransformersClient   a Hugging Face model in this process
    RetryingClient       asks again where asking again can help
    LimitedClient        bounds how many requests run at once
    ScriptedClient       answers from a script, for tests and examples

The wrappers have the client's own protocol, so they nest. Nest them in this order:

    RetryingClient(LimitedClient(OpenAIClient(base_url=...), max_concurrency=16))

A request that waits for its next attempt then holds no place in the limit. A client belongs to one event loop
at a time: `await client.close()` before it is used in another `asyncio.run`.

Modules whose name begins with an underscore are parts of a component, not components. Importing this package
loads none of them and no HTTP library; the names above are loaded when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sae_auto_interp.clients.anthropic import AnthropicClient
    from sae_auto_interp.clients.limit import LimitedClient
    from sae_auto_interp.clients.local import Local
    from sae_auto_interp.clients.openai import OpenAIClient
    from sae_auto_interp.clients.openrouter import OpenRouter
    from sae_auto_interp.clients.outlines import Outlines
    from sae_auto_interp.clients.retry import RetryingClient
    from sae_auto_interp.clients.scripted import ScriptedClient
    from sae_auto_interp.clients.transformers import TransformersClient

__all__ = [
    "AnthropicClient",
    "LimitedClient",
    "Local",
    "OpenAIClient",
    "OpenRouter",
    "Outlines",
    "RetryingClient",
    "ScriptedClient",
    "TransformersClient",
]

_MODULES = {
    "AnthropicClient": "anthropic",
    "LimitedClient": "limit",
    "Local": "local",
    "OpenAIClient": "openai",
    "OpenRouter": "openrouter",
    "Outlines": "outlines",
    "RetryingClient": "retry",
    "ScriptedClient": "scripted",
    "TransformersClient": "transformers",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
