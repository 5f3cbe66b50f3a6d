"""Answers of language models <-> bytes of the response cache, and the key that they are stored under.

The key is the SHA-256 of a namespace, the model's name and the request's canonical JSON (messages, sampling, schema,
log-probabilities): whatever may change the answer, and nothing else. The address of the server is not part of it, so
that answers outlive a port or a provider. Two servers that answer differently under one model name must be told apart
by namespaces. `FORMAT` is part of the key too: it is raised when answers come to be read in another way.
"""

import hashlib
import json
import zlib
from typing import Any, TypeAlias

from sae_auto_interp.types import PromptLogprobs, PromptRequest, Request, Response, TokenLogprob, Usage

FORMAT = 1
_COMPRESS_FROM_BYTES = 400
_LEVEL = 1
"""Level of zlib: log-probabilities shrink to a quarter at any level, and the fastest one is five times as fast."""

StoredAnswer: TypeAlias = Response | PromptLogprobs


def answer_key(namespace: str, model: str, question: Request | PromptRequest) -> bytes:
    """32 bytes that stand for a question to a model."""
    kind = "generate" if isinstance(question, Request) else "read"
    whole = f"{FORMAT} {namespace!r} {model!r} {kind}\n{question.canonical_json()}"
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).digest()


def encode_answer(answer: StoredAnswer) -> bytes:
    """Compact JSON, compressed where it is long."""
    usage = [answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.n_requests]
    if answer.usage.n_uncounted:
        usage.append(answer.usage.n_uncounted)
    if isinstance(answer, Response):
        logprobs = None if answer.logprobs is None else [_from_token(token) for token in answer.logprobs]
        fields: list[Any] = [answer.text, usage, answer.finish_reason, answer.model, logprobs]
    else:
        fields = [[_from_token(token) for token in answer.tokens], usage, answer.model]
    plain = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return plain if len(plain) < _COMPRESS_FROM_BYTES else zlib.compress(plain, _LEVEL)


def decode_answer(content: bytes) -> StoredAnswer:
    """The inverse of `encode_answer`; raises ValueError for anything else."""
    try:
        plain = content if content.startswith(b"[") else zlib.decompress(content)
        fields: list[Any] = json.loads(plain.decode("utf-8", "surrogatepass"))
        if len(fields) == 3:
            tokens, usage, model = fields
            return PromptLogprobs(tuple(_to_token(token) for token in tokens), Usage(*usage), model)
        text, usage, finish_reason, model, logprobs = fields
        if not isinstance(text, str):
            raise TypeError(f"its text is of type {type(text).__name__}")
        tokens = None if logprobs is None else tuple(_to_token(token) for token in logprobs)
        return Response(text, Usage(*usage), finish_reason, model, tokens)
    except (zlib.error, TypeError, RecursionError) as error:
        raise ValueError(f"no stored answer: {error}") from error


def _from_token(token: TokenLogprob) -> list[Any]:
    return [token.token, token.logprob, dict(token.alternatives)]


def _to_token(fields: list[Any]) -> TokenLogprob:
    return TokenLogprob(*fields)
