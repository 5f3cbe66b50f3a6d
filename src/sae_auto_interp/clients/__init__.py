"""Language-model clients: a `Request` goes in, a `Response` or a `ClientError` comes out.

    OpenAIClient         any OpenAI-compatible endpoint over HTTP
    OpenAIBatchClient    OpenAI's Batch API
    AnthropicClient      Anthropic's Messages API
    Local, OpenRouter, Outlines   the original library's names for three kinds of endpoints
    TransformersClient   a Hugging Face model in this process
    VllmClient           the same, run by vLLM
    OpenAIBatchClient    OpenAI's batch API: cheaper, hours later
    ScriptedClient       answers from a script, for tests and examples
    ReplayClient         answers nothing: behind a cache, a run that costs nothing

    CachingClient    asks nothing twice (needs a ResponseStore)
    RetryingClient   asks again where asking again can help
    BreakerClient    waits while the server is away
    PacedClient      keeps to requests and tokens per minute
    LimitedClient    bounds how many requests run at once
    BilledClient     counts what is paid (into a Ledger), and keeps to a Budget

The wrappers have the client's own protocol, so they nest, in this order from the outside in; each may be left out:

    RetryingClient(LimitedClient(OpenAIClient(base_url=...), max_concurrency=16))

A request that waits for its next attempt then holds no place in the limit, and what was paid for is counted although
another attempt is needed. `pipeline/clients/open_clients.py` composes them for a run. A client belongs to one event loop at a
time: `await client.close()` before it is used in another `asyncio.run`.

Modules whose name begins with an underscore are parts of a component, not components. Importing this package
loads none of them and no HTTP library; the names above are loaded when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sae_auto_interp.clients._ledger import Ledger
    from sae_auto_interp.clients.anthropic import AnthropicClient
    from sae_auto_interp.clients.billing import BilledClient
    from sae_auto_interp.clients.local import Local
    from sae_auto_interp.clients.openai import OpenAIClient
    from sae_auto_interp.clients.openai_batch import OpenAIBatchClient
    from sae_auto_interp.clients.openrouter import OpenRouter
    from sae_auto_interp.clients.outlines import Outlines
    from sae_auto_interp.clients.replay import ReplayClient
    from sae_auto_interp.clients.responses.store import ResponseStore
    from sae_auto_interp.clients.scripted import ScriptedClient
    from sae_auto_interp.clients.transformers import TransformersClient
    from sae_auto_interp.clients.vllm import VllmClient
    from sae_auto_interp.clients.wrappers.billing import Charge, charging_probes
    from sae_auto_interp.clients.wrappers.breaker import BreakerClient
    from sae_auto_interp.clients.wrappers.budget import Budget
    from sae_auto_interp.clients.wrappers.concurrency import LimitedClient
    from sae_auto_interp.clients.wrappers.rate_limit import PacedClient
    from sae_auto_interp.clients.wrappers.response_cache import CachingClient
    from sae_auto_interp.clients.wrappers.retry import RetryingClient

__all__ = [
    "AnthropicClient",
    "BilledClient",
    "BreakerClient",
    "Budget",
    "CachingClient",
    "Charge",
    "Ledger",
    "LimitedClient",
    "Local",
    "OpenAIBatchClient",
    "OpenAIClient",
    "OpenRouter",
    "Outlines",
    "PacedClient",
    "ReplayClient",
    "ResponseStore",
    "RetryingClient",
    "ScriptedClient",
    "TransformersClient",
    "VllmClient",
    "charging_probes",
]

_MODULES = {
    "AnthropicClient": "anthropic",
    "BilledClient": "billing",
    "BreakerClient": "breaker",
    "Budget": "_budget",
    "CachingClient": "response_cache",
    "Charge": "_charge",
    "Ledger": "_ledger",
    "LimitedClient": "limit",
    "Local": "local",
    "OpenAIBatchClient": "openai_batch",
    "OpenAIClient": "openai",
    "OpenRouter": "openrouter",
    "Outlines": "outlines",
    "PacedClient": "pace",
    "ReplayClient": "replay",
    "ResponseStore": "_response_store",
    "RetryingClient": "retry",
    "ScriptedClient": "scripted",
    "TransformersClient": "transformers",
    "VllmClient": "vllm",
    "charging_probes": "_charge",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
