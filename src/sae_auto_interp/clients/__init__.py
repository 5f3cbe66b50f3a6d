"""Language-model clients: a `Request` goes in, a `Response` or a `ClientError` comes out.

    OpenAIClient         any OpenAI-compatible endpoint over HTTP
    OpenAIBatchClient    OpenAI's Batch API
    AnthropicClient      Anthropic's Messages API
    Local, OpenRouter   the original library's names for two kinds of endpoints
    TransformersClient   a Hugging Face model in this process
    VllmClient           the same, run by vLLM
    OpenAIBatchClient    OpenAI's batch API: cheaper, hours later
    ScriptedClient       answers from a script, for tests and examples
    ReplayClient         answers nothing: behind a cache, a run that costs nothing

    CachingClient    asks nothing twice (needs a ResponseStore)
    RetryingClient   asks again where asking again can help
    BreakerClient    waits while the server is away
    RateLimitClient      keeps to requests and tokens per minute
    LimitedClient    bounds how many requests run at once
    BilledClient     counts what is paid (into a SpendingLog), and keeps to a Budget

The wrappers have the client's own protocol, so they nest, in this order from the outside in; each may be left out:

    RetryingClient(LimitedClient(OpenAIClient(base_url=...), max_concurrency=16))

A request that waits for its next attempt then holds no place in the limit, and what was paid for is counted although
another attempt is needed. `pipeline/clients/open_clients.py` composes them for a run. A client belongs to one event
loop at a time: `await client.close()` before it is used in another `asyncio.run`.

Modules whose name begins with an underscore are parts of a component, not components. Importing this package
loads none of them and no HTTP library; the names above are loaded when first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
