"""What a tokenizer makes of a conversation and of a text, for the clients that run a model themselves."""

import math
from collections.abc import Sequence
from typing import Any

from sae_auto_interp.errors import RefusedRequestError
from sae_auto_interp.types import Message, TokenLogprob


def conversation_ids(tokenizer: Any, messages: Sequence[Message]) -> tuple[int, ...]:
    """Token ids of a conversation, by the chat template; of a model without one, its texts one below the other.

    Raises RefusedRequestError for messages that the template refuses, or that hold half of a character.
    """
    if any(is_broken(message.content) for message in messages):
        raise RefusedRequestError("a message holds half of a character (a lone surrogate)")
    if tokenizer.chat_template is None:
        return tuple(tokenizer.encode("\n\n".join(message.content for message in messages) + "\n\n", verbose=False))
    text = _by_template(tokenizer, [{"role": m.role, "content": m.content} for m in messages])
    return tuple(tokenizer.encode(text, add_special_tokens=False, verbose=False))


def text_ids(tokenizer: Any, text: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Token ids of a text as the model wants to read it, and what each covers of it (special tokens: nothing).

    Raises RefusedRequestError for a text that is empty, or holds half of a character.
    """
    if not text or is_broken(text):
        raise RefusedRequestError("the text is empty, or holds half of a character (a lone surrogate)")
    encoded = tokenizer(text, return_offsets_mapping=True, verbose=False)
    pieces: list[str] = []
    at = 0
    for _, end in encoded["offset_mapping"]:
        # Tokens that are bytes of one character have the same offsets: the first of them covers it.
        pieces.append(text[at:end])
        at = max(at, end)
    pieces[-1] += text[at:]  # white space at the end, of a tokenizer that drops it
    return tuple(encoded["input_ids"]), tuple(pieces)


def is_broken(text: str) -> bool:
    """Whether a text cannot be encoded: it holds half of a character."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _by_template(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    """Templates that know no system message get it in front of the first user message."""
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        if messages[0]["role"] != "system" or len(messages) == 1:
            raise RefusedRequestError(f"the model's chat template refuses the messages: {error}") from error
        merged = f"{messages[0]['content']}\n\n{messages[1]['content']}"
        return _by_template(tokenizer, [{"role": messages[1]["role"], "content": merged}, *messages[2:]])


def first_unrated(pieces: Sequence[str], rated: Sequence[TokenLogprob]) -> tuple[TokenLogprob, ...]:
    """Tokens of a text as `PromptLogprobs` wants them: those that cover it, the first one without a log-probability."""
    start = next((i for i, piece in enumerate(pieces) if piece), len(pieces))
    first = [TokenLogprob(pieces[start], math.nan)] if start < len(pieces) else []
    rest = zip(pieces[start + 1 :], rated[start:], strict=True)
    return (*first, *(TokenLogprob(piece, token.logprob, token.alternatives) for piece, token in rest))
