"""Finds out what one model at one endpoint does, by asking for what it would hardly do by itself.

    json_schema      it is told to answer "green" and held to a schema of one odd number, which bound decoding gives
    guided choice    the same, with two odd words to choose from
    logprobs         natural logarithms: none above 0, no position above 1 in all, and its tokens make the text
    prompt logprobs  the token that it writes next itself must be the likeliest where the same text is rated with it
    n, seed          two answers; the same sampled text for the same seed, and another for another seed
    max_tokens       a long answer, cut after four tokens

A server that crashes on a question (5xx) or refuses it does not have what was asked for. One that cannot be reached or
is busy says nothing about itself: that is raised, after three attempts, and nothing is recorded.
"""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sae_auto_interp.clients.http.capabilities import Capabilities, ChoiceField, PromptLogprobsBy
from sae_auto_interp.clients.http.chat_completions import decode_choice_logprobs
from sae_auto_interp.clients.http.json_values import JsonObject, as_count, as_list, as_object
from sae_auto_interp.clients.http.prompt_logprobs import decode_reading, encode_reading
from sae_auto_interp.clients.http.thinking import thinking_length
from sae_auto_interp.errors import ClientError, MalformedReplyError, RefusedRequestError, ServerError
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
_WAITS_SECONDS = (1.0, 5.0)
"""Before the second and the third attempt."""
_TOP_LOGPROBS = (20, 5, 1)
"""How many alternatives are asked for; OpenAI gives 20, some of its models and others 5."""


Post: TypeAlias = Callable[[str, Mapping[str, object]], Awaitable[JsonObject]]
"""Sends a body to a path below the endpoint; raises `ClientError` subclasses only."""


@dataclass(frozen=True, slots=True)
class Prober:
    """Asks one model; `probe` asks everything."""

    post: Post
    model: str
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def probe(self) -> Capabilities:
        """About a dozen short requests. Raises the endpoint's error when it answers no plain question at all."""
        bounded = await self._max_tokens()  # alone and first: it teaches which parameters are refused
        start = asyncio.create_task
        probes = (
            start(self._json_schema()), start(self._choice()), start(self._top_logprobs()),
            start(self._prompt_logprobs()), start(self._n()), start(self._seed()),
        )  # fmt: skip
        try:
            schema, choice, top, prompt, n, seed = await asyncio.gather(*probes)
        finally:  # where one finds the server gone, the others do not go on behind the run's back
            for probe in probes:
                probe.cancel()
            await asyncio.gather(*probes, return_exceptions=True)
        return Capabilities(schema, choice, top, prompt, n, seed, bounded)

    async def _max_tokens(self) -> bool:
        reply = await self._patiently("chat/completions", self._chat(_COUNT, 4))
        n_tokens = as_count(as_object(reply.get("usage")).get("completion_tokens"))
        return n_tokens <= 4 if n_tokens else len(_text(reply).split()) <= 8

    async def _json_schema(self) -> bool:
        properties = {"q": {"type": "integer", "enum": list(NUMBERS)}}
        schema = {"type": "object", "properties": properties, "required": ["q"], "additionalProperties": False}
        wanted = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
        return _holds_number(_text(await self._asked({"response_format": wanted})))

    async def _choice(self) -> ChoiceField | None:
        fields: dict[ChoiceField, object] = {"structured_outputs": {"choice": WORDS}, "guided_choice": WORDS}
        for field, value in fields.items():
            if _text(await self._asked({field: value})).strip() in WORDS:
                return field
        return None

    async def _top_logprobs(self) -> int:
        for k in _TOP_LOGPROBS:
            reply = await self._try(
                "chat/completions", self._chat(_SAY_GREEN, 4) | {"logprobs": True, "top_logprobs": k}
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
        reply = await self._try("chat/completions", self._chat(_SAY_GREEN, 4) | {"n": 2})
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
            return await self._patiently(path, body)
        except (RefusedRequestError, MalformedReplyError, ServerError):
            return None

    async def _patiently(self, path: str, body: Mapping[str, object]) -> JsonObject:
        for seconds in _WAITS_SECONDS:
            try:
                return await self.post(path, body)
            except ClientError as error:
                if not error.is_retryable:
                    raise
            await self.sleep(seconds)
        return await self.post(path, body)


def _choice(reply: JsonObject) -> JsonObject:
    return as_object(next(iter(as_list(reply.get("choices"))), None))


def _text(reply: JsonObject) -> str:
    content = as_object(_choice(reply).get("message")).get("content")
    return content[thinking_length(content) :] if isinstance(content, str) else ""


def _holds_number(text: str) -> bool:
    try:
        answer: object = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return as_object(answer).get("q") in NUMBERS


def _believable_alternatives(reply: JsonObject) -> int:
    """Most alternatives at one token, if these are log-probabilities of the text's tokens; else 0."""
    content = as_object(_choice(reply).get("message")).get("content")
    try:
        tokens = decode_choice_logprobs(_choice(reply), str)
    except MalformedReplyError:
        return 0
    if tokens is None or not isinstance(content, str) or "".join(t.token for t in tokens).strip() != content.strip():
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
