"""A language model as judge: one prompt per batch of examples, answered by a list of 0 and 1.

The instructions come first and the examples last, so that servers with a prefix cache reuse what repeats. A reply that
cannot be read, or holds another number of verdicts than examples, is a Failure of every example in the batch. Where
one of several examples is to be chosen (`choose`), the answer is its number.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sae_auto_interp.errors import ClientError, ConfigError
from sae_auto_interp.judges._replies import READINGS, VERDICTS, choice_schema, parse_choice, verdict_probabilities
from sae_auto_interp.judges._verdict_lists import Verdicts
from sae_auto_interp.prompting.answers import is_cut_off
from sae_auto_interp.prompting.asking import answered, unanswered
from sae_auto_interp.prompting.highlights import choose_delimiters, marked_text
from sae_auto_interp.prompting.prompts import load_prompt
from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Failure, Message, Request, Response, Sampling, ShownExample, Usage, Verdict

TOKENS_PER_VERDICT = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmJudge:
    """Judges by prompt, through any client."""

    client: Client
    structured: bool = True
    """Send the answer's JSON schema; servers that ignore it are read as text just the same."""
    temperature: float = 0.0
    spare_tokens: int = 30
    """Tokens of an answer beyond its list; raise it for a model that thinks before it answers."""
    top_logprobs: int = 5
    """Alternatives wanted at each token, for the probability of each verdict: enough for 0 and 1 with and without a
    space. The client asks for as many as its endpoint was seen to give, and where it gives none a verdict has no
    probability. The question is the same either way, and so is the place of its answer in the cache. 0: never."""

    def __post_init__(self) -> None:
        if self.top_logprobs < 0:
            raise ConfigError(f"judges.llm.top_logprobs={self.top_logprobs}; give 0 or more, 5 is enough")

    @property
    def name(self) -> str:
        return f"llm:{self.client.model}"

    async def judge(
        self, explanation: str, examples: Sequence[ShownExample], task: str
    ) -> tuple[list[Verdict | Failure], Usage]:
        """One request for all the examples."""
        n, reading = len(examples), READINGS.get(task, VERDICTS)
        response = await self._ask(
            self.request(explanation, examples, task), lambda reply: reading.read(reply, n) is not None
        )
        if isinstance(response, Failure):
            return [response] * n, Usage(n_requests=1)
        found = reading.read(response, n)
        if found is None:
            return [_unparsable(response, reading.missing.format(n=n))] * n, response.usage
        return list(_verdicts(found, response)), response.usage

    async def choose(
        self, explanation: str | None, examples: Sequence[ShownExample], task: str
    ) -> tuple[Sequence[float] | Failure, Usage]:
        """One request; 1 for the chosen example and 0 for the others."""
        n = len(examples)
        response = await self._ask(
            self.choice_request(explanation, examples, task), lambda reply: parse_choice(reply, n) is not None
        )
        if isinstance(response, Failure):
            return response, Usage(n_requests=1)
        chosen = parse_choice(response, n)
        if chosen is None:
            return _unparsable(response, f"no number from 1 to {n}"), response.usage
        return [float(i == chosen) for i in range(n)], response.usage

    def request(self, explanation: str, examples: Sequence[ShownExample], task: str) -> Request:
        """The request for one batch; the same batch gives the same request."""
        n, reading = len(examples), READINGS.get(task, VERDICTS)
        messages = _messages(explanation, examples, task)
        schema = reading.schema(n) if reading.schema else None
        top_logprobs = self.top_logprobs if reading.has_places else 0
        return self._request(messages, schema, TOKENS_PER_VERDICT * n, top_logprobs)

    def choice_request(self, explanation: str | None, examples: Sequence[ShownExample], task: str) -> Request:
        """The request for one choice."""
        return self._request(_messages(explanation, examples, task), choice_schema(len(examples)), TOKENS_PER_VERDICT)

    def _request(
        self, messages: tuple[Message, ...], schema: str | None, n_tokens: int, top_logprobs: int = 0
    ) -> Request:
        sampling = Sampling(self.temperature, max_tokens=self.spare_tokens + n_tokens)
        return Request(messages, sampling, schema if self.structured else None, top_logprobs)

    async def _ask(self, request: Request, is_readable: Callable[[Response], bool]) -> Response | Failure:
        try:
            return await answered(self.client, request, is_readable)
        except ClientError as error:
            return unanswered(error, "the judge's spare_tokens")


def _messages(explanation: str | None, examples: Sequence[ShownExample], task: str) -> tuple[Message, ...]:
    opening, closing = delimiters = choose_delimiters("".join(shown.str_tokens) for shown in examples)
    system = load_prompt("judges", task).fill(n=str(len(examples)), opening=opening, closing=closing)
    excerpts = [f"Excerpt {i}: {_text(shown, delimiters)}" for i, shown in enumerate(examples, 1)]
    described = [] if explanation is None else [f"Description: {explanation}"]
    return Message("system", system), Message("user", "\n\n".join(described + excerpts))


def _verdicts(found: Verdicts, response: Response) -> Iterator[Verdict]:
    """Verdicts with their probabilities, where the reply has each at a place of its own."""
    places = [place for place in found.places if place is not None]
    has_places = len(places) == len(found.places)
    known = (
        verdict_probabilities(response.text, response.logprobs, places) if has_places else [None] * len(found.places)
    )
    return (Verdict(matches, p) for matches, p in zip(found.matches, known, strict=True))


def _unparsable(response: Response, missing: str) -> Failure:
    reason = f"the reply holds {missing}"
    if is_cut_off(response):
        reason += ": it was cut off; raise the judge's spare_tokens"
    return Failure("score", "unparsable", reason, response.text)


def _text(shown: ShownExample, delimiters: tuple[str, str]) -> str:
    if shown.highlighted is None:
        return "".join(shown.str_tokens)
    return marked_text(shown.str_tokens, shown.highlighted, delimiters)
