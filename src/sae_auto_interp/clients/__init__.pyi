"""The public names, each with the module that it is in; they load when they are first used."""

from .anthropic import AnthropicClient as AnthropicClient
from .local import Local as Local
from .openai import OpenAIClient as OpenAIClient
from .openai_batch import OpenAIBatchClient as OpenAIBatchClient
from .openrouter import OpenRouter as OpenRouter
from .replay import ReplayClient as ReplayClient
from .responses.store import ResponseStore as ResponseStore
from .scripted import ScriptedClient as ScriptedClient
from .transformers import TransformersClient as TransformersClient
from .vllm import VllmClient as VllmClient
from .wrappers.billing import BilledClient as BilledClient, Charge as Charge, charging_probes as charging_probes
from .wrappers.breaker import BreakerClient as BreakerClient
from .wrappers.budget import Budget as Budget, SpendingLog as SpendingLog
from .wrappers.concurrency import LimitedClient as LimitedClient
from .wrappers.rate_limit import RateLimitClient as RateLimitClient
from .wrappers.refusal_limit import RefusalLimitClient as RefusalLimitClient
from .wrappers.response_cache import CachingClient as CachingClient
from .wrappers.retry import RetryingClient as RetryingClient
from .wrappers.waiting import Waits as Waits

__all__: list[str]
