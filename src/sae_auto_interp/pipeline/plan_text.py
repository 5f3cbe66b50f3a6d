"""A plan in lines for people, with what was assumed."""

from sae_auto_interp.config import RunConfig
from sae_auto_interp.pipeline.plan import ACTIVE_PER_TOKEN, Assumptions, Plan
from sae_auto_interp.pipeline.plan_requests import left_out
from sae_auto_interp.pipeline.progress_state import duration
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
        "memory": f"{_size(plan.ram_mib)}, on the GPU {_size(plan.vram_mib)}",
        "disk": f"{_size(plan.cache_mib)} of activations, {_size(plan.results_mib)} of results",
    }
    return [f"{name + ':':<18} {value}" for name, value in rows.items()] + [
        *([f"not counted:       {', '.join(left_out(config))}"] if left_out(config) else []),
        "",
        f"counted on {plan.evidence}; assumed: {assumed.characters_per_token:g} characters per token, "
        f"{assumed.seconds_per_answer:g} s per answer, {ACTIVE_PER_TOKEN} active features per token where the run file "
        "says no k",
    ]


def _tokens(usage: Usage) -> str:
    return f"{usage.n_requests:,} requests, {usage.prompt_tokens:,} + {usage.completion_tokens:,} tokens"


def _size(mib: float | None) -> str:
    if mib is None:
        return "unknown (the weights are not here)"
    return f"{mib / 1024:,.1f} GiB" if mib >= 1024 else f"{mib:,.0f} MiB"
