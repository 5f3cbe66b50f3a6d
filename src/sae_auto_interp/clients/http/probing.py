"""Finds out what one model at one endpoint does, by asking for what it would hardly do by itself.

    list_schema      it is told to answer "green" and held to a schema of a list of two odd numbers, which bound
                     decoding gives: verdicts are asked for so
    json_schema      the same with one odd number, where it has no lists
    system_role      a message of the role system, which is there in most questions of a run
    guided choice    the same, with two odd words to choose from
    logprobs         natural logarithms: none above 0, no position above 1 in all, and its tokens make the text
    prompt logprobs  the token that it writes next itself must be the likeliest where the same text is rated with it
    n, seed          two answers; the same sampled text for the same seed, and another for another seed
    max_tokens       a long answer, cut after sixteen tokens, which no server finds too few

A server that crashes on a question (5xx) or refuses it does not have what was asked for. One that cannot be reached or
is busy says nothing about itself: it is asked as often as the run would ask it (`_patience`), and then that is raised,
and nothing is recorded. The first question also finds out which parameters are refused, in whatever words.
"""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from sae_auto_interp.clients.http.capabilities import Capabilities, ChoiceField, PromptLogprobsBy
from sae_auto_interp.clients.http.chat_completions import logprobs_of
from sae_auto_interp.clients.http.content import text_in
from sae_auto_interp.clients.http.json_values import JsonObject, as_count, as_list, as_object, is_list
from sae_auto_interp.clients.http.prompt_logprobs import decode_reading, encode_reading
from sae_auto_interp.clients.http.thinking import thinking_length
from sae_auto_interp.errors import MalformedReplyError, RefusedRequestError, ServerError
from sae_auto_interp.types import PromptRequest, TokenLogprob

NUMBERS = (71293, 33587)
WORDS = ("zibeline", "quokka")
_SAY_GREEN = "Reply with the single word green, in plain text and not as JSON."
_COUNT = "Count from one to one hundred in words."
_LETTERS = "Write a line of thirty random letters."
_SERIES = "1, 2, 3, 4, 5, 6, 7, 8,"
_ROOM = 100
"""Tokens for a short answer: a schema allows white space, which small models like."""
_ROOM_TO_THINK = 4000
_FEW = 16
"""Tokens of an answer that is cut; some servers refuse fewer."""
_FEW_WORDS = 20
"""What these may say: hardly a token is more than one word."""
_TOP_LOGPROBS = (20, 5, 1)
"""How many alternatives are asked for; OpenAI gives 20, some of its models and others 5."""


Post: TypeAlias = Callable[[str, Mapping[str, object]], Awaitable[JsonObject]]
"""Sends a body to a path below the endpoint; raises `ClientError` subclasses only."""


@dataclass(frozen=True, slots=True)
class Prober:
    """Asks one model; `probe` asks everything. It asks each question once: `post` and `post_first` are patient."""

    post: Post
    """Leaves out what the server says by name that it does not take."""
    post_first: Post
    """Finds out what the server does not take."""
    model: str

    async def probe(self) -> Capabilities:
        """About a dozen short requests. Raises the endpoint's error when it answers no plain question at all."""
        bounded = await self._max_tokens()  # alone and first: it teaches which parameters are refused
        schema, choice, top, prompt, n, seed, system = await _together(
            self._schemas(), self._choice(), self._top_logprobs(), self._prompt_logprobs(), self._n(), self._seed(),
            self._system_role(),
        )  # fmt: skip
        (json_schema, list_schema) = schema
        return Capabilities(
            json_schema, choice, top, prompt, n, seed, bounded, list_schema=list_schema, system_role=system
        )

    async def complete(self, known: Capabilities) -> Capabilities:
        """What is known, with what an earlier version did not ask."""
        (_, list_schema), system = await _together(
            self._schemas() if known.json_schema else _neither(), self._system_role()
        )
        return replace(known, list_schema=list_schema, system_role=system)

    async def _max_tokens(self) -> bool:
        try:
            reply = await self.post_first("chat/completions", self._chat(_COUNT, _FEW))
        except RefusedRequestError:
            message = {"role": "user", "content": _SAY_GREEN}
            await self.post_first("chat/completions", {"model": self.model, "messages": [message]})
            return False
        n_tokens = as_count(as_object(reply.get("usage")).get("completion_tokens"))
        return n_tokens <= _FEW if n_tokens else len(_text(reply).split()) <= _FEW_WORDS

    async def _schemas(self) -> tuple[bool, bool]:
        """Whether an answer is held to a schema, and to one of a list of fixed length."""
        number = {"type": "integer", "enum": list(NUMBERS)}
        if await self._holds({"type": "array", "items": number, "minItems": 2, "maxItems": 2}):
            return True, True
        return await self._holds(number), False

    async def _holds(self, value: Mapping[str, object]) -> bool:
        schema = {"type": "object", "properties": {"q": value}, "required": ["q"], "additionalProperties": False}
        wanted = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
        return _holds_numbers(_text(await self._asked({"response_format": wanted})))

    async def _system_role(self) -> bool:
        messages = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": _SAY_GREEN}]
        return await self._try("chat/completions", self._chat(_SAY_GREEN, _ROOM) | {"messages": messages}) is not None

    async def _choice(self) -> ChoiceField | None:
        fields: dict[ChoiceField, object] = {"structured_outputs": {"choice": WORDS}, "guided_choice": WORDS}
        for field, value in fields.items():
            if _text(await self._asked({field: value})).strip() in WORDS:
                return field
        return None

    async def _top_logprobs(self) -> int:
        for k in _TOP_LOGPROBS:
            reply = await self._try(
                "chat/completions", self._chat(_SAY_GREEN, _FEW) | {"logprobs": True, "top_logprobs": k}
            )
            if reply is not None:
                return _believable_alternatives(reply)
        return 0

    async def _prompt_logprobs(self) -> PromptLogprobsBy | None:
        body = {"model": self.model, "prompt": _SERIES, "max_tokens": 1, "temperature": 0.0}
        reply = await self._try("completions", body)
        following = as_object(_choice(reply or {})).get("text")
        if not isinstance(following, str) or not following:
            return None
        ways: tuple[PromptLogprobsBy, ...] = ("prompt_logprobs", "echo")
        for by in ways:
            if await self._rates(following, by):
                return by
        return None

    async def _rates(self, following: str, by: PromptLogprobsBy) -> bool:
        request = PromptRequest(_SERIES + following, top_logprobs=1)
        reply = await self._try("completions", encode_reading(request, self.model, by))
        try:
            tokens = decode_reading(reply or {}, request, self.model, by, str).tokens
        except MalformedReplyError:
            return False
        last = tokens[-1]
        is_the_likeliest = last.token == following and last.logprob >= max(last.alternatives.values(), default=0) - 1e-3
        return is_the_likeliest and _are_log_probabilities(tokens[1:]) and len({t.logprob for t in tokens[1:]}) > 2

    async def _n(self) -> bool:
        reply = await self._try("chat/completions", self._chat(_SAY_GREEN, _FEW) | {"n": 2})
        return len(as_list((reply or {}).get("choices"))) == 2

    async def _seed(self) -> bool:
        texts = [_text(await self._asked({"temperature": 1.0, "seed": seed}, _LETTERS)) for seed in (7, 7, 8)]
        return texts[0] == texts[1] != texts[2] and bool(texts[0])

    def _chat(self, text: str, max_tokens: int) -> dict[str, object]:
        message = {"role": "user", "content": text}
        return {"model": self.model, "messages": [message], "temperature": 0.0, "max_tokens": max_tokens}

    async def _asked(self, more: Mapping[str, object], text: str = _SAY_GREEN) -> JsonObject:
        """The answer; one that ended while the model was still thinking is asked for again, with room for thought."""
        reply = await self._try("chat/completions", {**self._chat(text, _ROOM), **more})
        if reply is not None and not _text(reply) and _choice(reply).get("finish_reason") == "length":
            reply = await self._try("chat/completions", {**self._chat(text, _ROOM_TO_THINK), **more})
        return reply or {}

    async def _try(self, path: str, body: Mapping[str, object]) -> JsonObject | None:
        """The answer, or None from a server that refuses the question or breaks over it."""
        try:
            return await self.post(path, body)
        except (RefusedRequestError, MalformedReplyError, ServerError):
            return None


async def _neither() -> tuple[bool, bool]:
    return False, False


async def _together(*questions: Coroutine[Any, Any, Any]) -> Any:
    """The answers; where one question finds the server gone, the others do not go on behind the run's back."""
    tasks = [asyncio.create_task(question) for question in questions]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _choice(reply: JsonObject) -> JsonObject:
    return as_object(next(iter(as_list(reply.get("choices"))), None))


def _text(reply: JsonObject) -> str:
    content = _content(reply)
    return content[thinking_length(content) :]


def _content(reply: JsonObject) -> str:
    return text_in(as_object(_choice(reply).get("message")).get("content")) or ""


def _holds_numbers(text: str) -> bool:
    """Whether an answer is the odd number that was asked for, or a list of some."""
    try:
        answer = as_object(json.loads(text)).get("q")
    except (ValueError, RecursionError):
        return False
    numbers = as_list(answer) if is_list(answer) else [answer]
    return bool(numbers) and all(number in NUMBERS for number in numbers)


def _believable_alternatives(reply: JsonObject) -> int:
    """Most alternatives at one token, if these are log-probabilities of the text's tokens; else 0."""
    content = _content(reply).strip()
    tokens = logprobs_of(_choice(reply), content, thinking_length(content))
    if not tokens:
        return 0
    return max(len(token.alternatives) for token in tokens) if _are_log_probabilities(tokens) else 0


def _are_log_probabilities(tokens: Sequence[TokenLogprob]) -> bool:
    """None above 0, no position of more than 1 in all, and not all alternatives alike."""
    for token in tokens:
        values = [*token.alternatives.values(), token.logprob]
        if any(math.isnan(value) or value > 1e-6 for value in values):
            return False
        if sum(math.exp(value) for value in token.alternatives.values()) > 1 + 1e-3:
            return False
    listed = [set(token.alternatives.values()) for token in tokens if len(token.alternatives) > 1]
    return bool(tokens) and not (listed and all(len(values) == 1 for values in listed))
