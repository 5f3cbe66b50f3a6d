"""How long a prompt may be: read where a server tells it, or learnt from a refusal.

vLLM and SGLang tell it in the list of models, as do several vendors; llama.cpp, Ollama and LM Studio at addresses of
their own beside `/v1`. None of these is needed: a server that tells nothing is asked, and says in its refusal what was
too long, mostly with the numbers. They are read where they are plain.
"""

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sae_auto_interp.clients.http.json_values import JsonObject, as_list, as_object
from sae_auto_interp.clients.http.reply import Reply
from sae_auto_interp.errors import ClientError, PromptTooLongError
from sae_auto_interp.prompting.token_count import certainly_exceeds, fits, request_tokens
from sae_auto_interp.types import Request

Send: TypeAlias = Callable[[str, str, bytes | None], Awaitable[Reply]]
"""Sends (method, path, body); a path that begins with a slash begins at the server's root."""

_LEAST, _MOST = 16, 1_000_000_000
"""Tokens of a context; other numbers are of something else."""
_MOST_READ = 4_000
_CODES = ("context_length_exceeded", "exceed_context_size", "context_window_exceeded", "max_context_length")
_OF_CONTEXT = (
    r"(?:context[ _-]?(?:length|size|window|limit)|max_model_len|maximum (?:input|sequence|prompt|model) length)"
)
_CONTEXT = re.compile(_OF_CONTEXT)
_TOO_LONG = re.compile(
    r"exceed|too long|too large|too many|longer than|larger than|greater than|more than|less than|at most|"
    r"maximum|reduce|does not fit|doesn't fit|not enough|overflow"
)
_PROMPT = re.compile(r"\b(?:prompt|inputs?|messages?|sequence|requested)\b")
_NUMBER = r"(\d{1,3}(?:,\d{3})+|\d{1,12})"
_LIMITS = (
    re.compile(rf"{_OF_CONTEXT}\W{{0,4}}(?:is|of|of only|limit)?\W{{0,4}}{_NUMBER}"),
    re.compile(rf"{_NUMBER} (?:tokens )?maximum"),
    re.compile(rf"(?:less than|at most|maximum of|up to|limit of|exceeds) {_NUMBER} tokens"),
)
_PROMPTS = (
    re.compile(rf"{_NUMBER} (?:input tokens|prompt tokens|in the messages|in your prompt|of text input)"),
    re.compile(rf"(?:request|prompt|input) \({_NUMBER} tokens"),
    re.compile(rf"prompt is too long\W{{1,3}}{_NUMBER}"),
)
_LIST_FIELDS = ("max_model_len", "loaded_context_length", "context_length", "context_window", "max_context_length")


@dataclass(eq=False)
class ServedContext:
    """What is known of one model's context; shared by all requests to it."""

    model: str
    told: int | None = None
    """Tokens, by what the server says of itself."""
    learnt: int | None = None
    """Tokens, by its refusals."""

    def check(self, request: Request) -> None:
        """Raise PromptTooLongError for a request that need not be sent.

        Where the server told its context, by an estimate: some cut a long prompt without a word. Where it was learnt,
        only what would be refused for certain, so that what is asked does not depend on what was refused before.
        """
        for known, is_too_long in ((self.told, _does_not_fit), (self.learnt, certainly_exceeds)):
            if known is not None and is_too_long(request, known):
                n = request_tokens(request)
                message = f"the prompt is about {n:,} tokens, and the context of {self.model} holds {known:,}"
                raise PromptTooLongError(message, context_tokens=known, prompt_tokens=n)

    def note(self, error: PromptTooLongError) -> None:
        """Learn from a refusal."""
        if error.context_tokens is not None:
            self.learnt = error.context_tokens


def too_long(message: str, body: bytes) -> PromptTooLongError | None:
    """The error for a refusal that says that a prompt does not fit; `message` is what is shown of it."""
    reply = _object(body)
    error = as_object(reply.get("error")) or reply
    said = next((s for s in (error.get("message"), reply.get("error"), reply.get("detail")) if isinstance(s, str)), "")
    small = (said or body[:_MOST_READ].decode("utf-8", "replace"))[:_MOST_READ].lower()
    code = " ".join(str(error.get(name, "")) for name in ("code", "type"))
    is_named = any(name in code or name in small for name in _CODES)
    is_said = bool(_CONTEXT.search(small) and _TOO_LONG.search(small))
    is_long = "too long" in small or ("token" in small and ("too many" in small or "must have less than" in small))
    if not (is_named or is_said or (is_long and _PROMPT.search(small))):
        return None
    context, prompt = _tokens(error.get("n_ctx")), _tokens(error.get("n_prompt_tokens"))
    listed = sorted({n for text in re.findall(_NUMBER, small) if (n := _tokens(text)) is not None})
    if context is None:
        context = _first(_LIMITS, small) or (listed[0] if len(listed) == 2 else None)
    if prompt is None:
        prompt = _first(_PROMPTS, small) or (listed[1] if len(listed) == 2 and listed[0] == context else None)
    return PromptTooLongError(message, context_tokens=context, prompt_tokens=prompt)


async def told_context(send: Send, model: str, root: str) -> int | None:
    """Tokens of the context that a server says it gives the model; None where it says nothing of it.

    `root` is the path before the API's version. What goes wrong on the way only means that nothing is known.
    """
    listed = await _asked(send, "GET", "models")
    found = _in_list(as_list(listed.get("data")), model)
    if found is not None:
        return found
    props = await _asked(send, "GET", f"{root}/props")
    found = _tokens(as_object(props.get("default_generation_settings")).get("n_ctx")) or _tokens(props.get("n_ctx"))
    if found is not None:
        return found
    loaded = await _asked(send, "GET", f"{root}/api/ps")
    found = _in_list(as_list(loaded.get("models")), model)
    if found is None:
        found = _of_ollama(await _asked(send, "POST", f"{root}/api/show", {"model": model}))
    if found is None:
        found = _in_list(as_list((await _asked(send, "GET", f"{root}/api/v0/models")).get("data")), model)
    return found if found is not None else _trained_on(as_list(listed.get("data")), model)


def root_of(path: str) -> str:
    """The path of an endpoint without the version that it ends in.

    >>> root_of("/v1"), root_of("/llama/v1/"), root_of("/api")
    ('', '/llama', '/api')
    """
    bare = path.rstrip("/")
    before, _, last = bare.rpartition("/")
    return before if re.fullmatch(r"v\d{1,2}", last) else bare


def _does_not_fit(request: Request, context_tokens: int) -> bool:
    return not fits(request, context_tokens)


async def _asked(send: Send, method: str, path: str, body: JsonObject | None = None) -> JsonObject:
    try:
        reply = await send(method, path, None if body is None else json.dumps(body).encode("ascii"))
    except ClientError:
        return {}
    return _object(reply.content) if reply.is_success else {}


def _object(body: bytes) -> JsonObject:
    """The JSON object in a body; empty where it is none."""
    try:
        return as_object(json.loads(body))
    except (ValueError, RecursionError):
        return {}


def _entry(entries: Sequence[object], model: str) -> JsonObject:
    """The model's entry in a list: by its name, or the only one."""
    listed = [as_object(entry) for entry in entries]
    names = {model, f"{model}:latest", f"models/{model}"}
    named = [e for e in listed if any(str(e.get(key)) in names for key in ("id", "name", "model"))]
    return (named or (listed if len(listed) == 1 else [{}]))[0]


def _in_list(entries: Sequence[object], model: str) -> int | None:
    entry = _entry(entries, model)
    fields = [entry.get(name) for name in _LIST_FIELDS] + [as_object(entry.get("meta")).get("n_ctx")]
    return next((found for value in fields if (found := _tokens(value)) is not None), None)


def _trained_on(entries: Sequence[object], model: str) -> int | None:
    """llama.cpp's `n_ctx_train`: an upper bound of what it serves."""
    return _tokens(as_object(_entry(entries, model).get("meta")).get("n_ctx_train"))


def _of_ollama(shown: JsonObject) -> int | None:
    """`num_ctx` of the model's own parameters; else what the model was made for, which is an upper bound."""
    parameters = shown.get("parameters")
    if isinstance(parameters, str):
        for line in parameters.splitlines()[:1000]:
            name, _, value = line.strip().partition(" ")
            if name == "num_ctx" and _tokens(value.strip()) is not None:
                return _tokens(value.strip())
    about = as_object(shown.get("model_info"))
    return next((_tokens(value) for name, value in about.items() if str(name).endswith(".context_length")), None)


def _tokens(value: object) -> int | None:
    """A number of tokens that a context or a prompt may have, given as a number or in digits."""
    if isinstance(value, str):
        digits = value.replace(",", "")
        value = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 12 else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if _LEAST <= value <= _MOST else None


def _first(patterns: Sequence["re.Pattern[str]"], text: str) -> int | None:
    found = (match[1] for pattern in patterns if (match := pattern.search(text)))
    return next((n for digits in found if (n := _tokens(digits)) is not None), None)
