"""A plan in lines for people, with what was assumed."""

from sae_auto_interp.config import RunConfig
from sae_auto_interp.pipeline.planning.plan import Assumptions, Plan
from sae_auto_interp.pipeline.planning.requests import left_out
from sae_auto_interp.pipeline.progress.state import duration
from sae_auto_interp.types import Usage


def plan_lines(plan: Plan, config: RunConfig, assumed: Assumptions) -> list[str]:
    """One line for each thing that a run takes; then the assumptions."""
    limit = config.for_scoring.max_concurrency if config.for_scoring else 1
    rows = {
        "features": f"{plan.n_features:,}",
        "explain": _tokens(plan.explain),
        "score": _tokens(plan.score),
        "controls": _tokens(plan.control),
        "in all": _tokens(plan.usage),
        "price": "no prices given" if plan.usd is None else f"{plan.usd:,.2f} USD",
        "time of answers": f"{duration(plan.answer_seconds)} ({limit} at once); caching comes on top",
        "memory": f"{_size(plan.sizes.ram)}, on the GPU {_size(plan.sizes.vram)} (rough)",
        "disk": f"{_size(plan.sizes.cache)} of tokens and activations, {_size(plan.sizes.results)} of results; "
        f"{_size(plan.sizes.answers)} in the cache of answers (with log-probabilities up to seven times that)",
    }
    return [f"{name + ':':<18} {value}" for name, value in rows.items()] + [
        *([f"not counted:       {', '.join(left_out(config))}"] if left_out(config) else []),
        "",
        f"estimates: requests and tokens from {plan.evidence}, {_ratio(assumed)}, {assumed.seconds_per_answer:g} s per "
        f"answer; disk by {plan.sizes.basis}; nothing asked twice; once per endpoint, a dozen short questions about "
        "what it can do come on top",
    ]


def _ratio(assumed: Assumptions) -> str:
    if assumed.characters_per_token is None:
        return "tokens as current tokenizers cut text"
    return f"{assumed.characters_per_token:g} characters per token"


def _tokens(usage: Usage) -> str:
    return f"{usage.n_requests:,} requests, {usage.prompt_tokens:,} + {usage.completion_tokens:,} tokens"


def _size(mib: float | None) -> str:
    if mib is None:
        return "unknown (the weights are not here)"
    return f"{mib / 1024:,.1f} GiB" if mib >= 1024 else f"{mib:,.0f} MiB"
