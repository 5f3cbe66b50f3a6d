"""A language model as judge: one prompt per batch of examples, answered by a list of 0 and 1.

The instructions come first and the examples last, so that servers with a prefix cache reuse what repeats. A reply that
cannot be read, or holds another number of verdicts than examples, is a Failure of every example in the batch.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sae_auto_interp.errors import ClientError
from sae_auto_interp.highlights import choose_delimiters, marked_text
from sae_auto_interp.judges._probabilities import verdict_probabilities
from sae_auto_interp.prompts import load_prompt
from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Failure, Message, Request, Response, Sampling, ShownExample, Usage, Verdict

TOKENS_PER_VERDICT = 6
_LIST = re.compile(r"\[[^\[\]]*\]")
_WORD = re.compile(r"(?:^|(?<=[\[,]))\s*[\"']?\s*([^,\[\]\"']*?)\s*[\"']?\s*(?=,|\]|$)")
_WORDS = {"1": True, "0": False, "true": True, "false": False, "yes": True, "no": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmJudge:
    """Judges by prompt, through any client."""

    client: Client
    structured: bool = True
    """Send the answer's JSON schema; servers that ignore it are read as text just the same."""
    temperature: float = 0.0
    spare_tokens: int = 30
    """Tokens of an answer beyond its list; raise it for a model that thinks before it answers."""
    top_logprobs: int = 0
    """Alternatives asked for at each token, for the probability of each verdict; 20 is what most servers allow. 0 asks
    for none, since some servers refuse the question."""

    @property
    def name(self) -> str:
        return f"llm:{self.client.model}"

    async def judge(
        self, explanation: str, examples: Sequence[ShownExample], task: str
    ) -> tuple[list[Verdict | Failure], Usage]:
        """One request for all the examples."""
        try:
            response = await self.client.generate(self.request(explanation, examples, task))
        except ClientError as error:
            return [Failure("score", error.kind, str(error))] * len(examples), Usage(n_requests=1)
        verdicts = located_verdicts(response.text, len(examples))
        if verdicts is None:
            return [_unparsable(response, len(examples))] * len(examples), response.usage
        probabilities = verdict_probabilities(response.text, response.logprobs, [at for _, at in verdicts])
        return [Verdict(matches, p) for (matches, _), p in zip(verdicts, probabilities, strict=True)], response.usage

    def request(self, explanation: str, examples: Sequence[ShownExample], task: str) -> Request:
        """The request for one batch; the same batch gives the same request."""
        opening, closing = delimiters = choose_delimiters("".join(shown.str_tokens) for shown in examples)
        system = load_prompt("judges", task).fill(n=str(len(examples)), opening=opening, closing=closing)
        excerpts = "\n\n".join(f"Excerpt {i}: {_text(shown, delimiters)}" for i, shown in enumerate(examples, 1))
        user = f"Description: {explanation}\n\n{excerpts}"
        schema = _schema(len(examples)) if self.structured else None
        sampling = Sampling(self.temperature, max_tokens=self.spare_tokens + TOKENS_PER_VERDICT * len(examples))
        return Request((Message("system", system), Message("user", user)), sampling, schema, self.top_logprobs)


def parse_verdicts(reply: str, n: int) -> list[bool] | None:
    """The last list of exactly `n` verdicts in a reply; None when there is none.

    Reads `{"verdicts": [1, 0]}`, `Sure: [1, 0]`, `[True, False]` and lists broken over lines.
    """
    located = located_verdicts(reply, n)
    return None if located is None else [matches for matches, _ in located]


def located_verdicts(reply: str, n: int) -> list[tuple[bool, int]] | None:
    """`parse_verdicts` with the place of each verdict: the offset of its first character in the reply."""
    for listed in reversed(list(_LIST.finditer(reply))):
        words = list(_WORD.finditer(reply, listed.start() + 1, listed.end() - 1))
        if len(words) == n and all(word[1].lower() in _WORDS for word in words):
            return [(_WORDS[word[1].lower()], word.start(1)) for word in words]
    return None


def _unparsable(response: Response, n: int) -> Failure:
    reason = f"the reply holds no list of {n} verdicts"
    if response.finish_reason == "length":
        reason += ": it was cut off; raise the judge's spare_tokens"
    return Failure("score", "unparsable", reason, response.text)


def _text(shown: ShownExample, delimiters: tuple[str, str]) -> str:
    if shown.highlighted is None:
        return "".join(shown.str_tokens)
    return marked_text(shown.str_tokens, shown.highlighted, delimiters)


def _schema(n: int) -> str:
    verdicts = {"type": "array", "items": {"type": "integer", "enum": [0, 1]}, "minItems": n, "maxItems": n}
    schema = {
        "type": "object", "properties": {"verdicts": verdicts}, "required": ["verdicts"], "additionalProperties": False,
    }  # fmt: skip
    return json.dumps(schema, sort_keys=True)
