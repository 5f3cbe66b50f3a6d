"""A request that fits the model's context: as many examples as there is room for.

Which numbers of examples are tried is fixed, and the first that is taken in is the one: the same for any order in which
features are asked, whatever was learnt from others. A context that ends an answer before `max_tokens` does was too
short as well.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from sae_auto_interp.errors import ClientError, PromptTooLongError
from sae_auto_interp.explainers._asking import Reading, answer_to, explained
from sae_auto_interp.prompting.token_count import fits
from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Explanation, Failure, FeatureId, Request, Response, Usage


@dataclass(frozen=True, slots=True)
class Fewer:
    """How an explainer asks with fewer examples."""

    n: int
    """Examples that it shows where there is room."""
    request: Callable[[int], Request]
    """Build the request with this many examples."""
    setting: str
    """Its setting that says how many, as in a run file."""


async def ask_fitting(client: Client, feature: FeatureId, reading: Reading, fewer: Fewer) -> Explanation | Failure:
    """The explanation of the largest request that fits; a server's or a reader's trouble comes back as a Failure."""
    spent, context, error = Usage(), None, None
    for n in numbers_of_examples(fewer.n):
        request = fewer.request(n)
        if context is not None and n > 1 and not fits(request, context):
            continue
        try:
            response, request = await answer_to(client, request, reading)
        except PromptTooLongError as too_long:
            context, error = too_long.context_tokens, too_long
            continue
        except ClientError as failed:
            return Failure("explain", failed.kind, str(failed))
        spent += response.usage
        if _ran_out_of_context(response, request) and n > 1:
            context = response.usage.prompt_tokens + response.usage.completion_tokens
            continue
        outcome = explained(feature, replace(response, usage=spent), request, reading)
        is_fewer = n < fewer.n and isinstance(outcome, Explanation)
        return replace(outcome, n_shown=n) if is_fewer else outcome
    return _does_not_fit(feature, fewer, error)


def numbers_of_examples(n: int) -> Iterator[int]:
    """`n`, then about three quarters of what was tried before, down to one.

    >>> list(numbers_of_examples(40))
    [40, 30, 22, 16, 12, 9, 6, 4, 3, 2, 1]
    """
    while n >= 1:
        yield n
        n = min(n - 1, n * 3 // 4)


def _ran_out_of_context(response: Response, request: Request) -> bool:
    """Whether an answer was cut off although `max_tokens` was not reached."""
    n_tokens = response.usage.completion_tokens
    return response.finish_reason == "length" and 0 < n_tokens < request.sampling.max_tokens


def _does_not_fit(feature: FeatureId, fewer: Fewer, error: PromptTooLongError | None) -> Failure:
    message = (
        f"{feature}: the prompt is too long even with one example ({error}); serve the model with a longer context, "
        f"or show shorter examples ({fewer.setting} is lowered by itself; features.window says how long one is)"
    )
    return Failure("explain", PromptTooLongError.kind, message)
