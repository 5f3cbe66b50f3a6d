"""About how many tokens a text is to a language model whose tokenizer is not at hand, and whether a request fits.

Tokenizers of current models cut a text into words, numbers and signs first (the patterns of GPT-2 and its successors),
and most pieces of English and of code then are one token. So pieces are counted, and long words as several. On English
prose, on Python, and on this library's prompts that gives o200k_base's and cl100k_base's counts within 7 %, where
characters over any fixed number are wrong by up to a quarter. Letters of other scripts are taken for two a token.
"""

import re
from functools import lru_cache

from sae_auto_interp.types import Request

CHAT_TEMPLATE_TOKENS = 4
"""What a chat template puts around a message."""
ROOM_FOR_AN_ANSWER = 100
"""Tokens that are left for an answer, or its `max_tokens` where these are fewer: most answers are shorter."""
CERTAINLY = 0.7
"""Share of the estimate: no tokenizer for English makes fewer."""
_LETTER = "A-Za-z\u00c0-\u024f"
_PIECE = re.compile(rf" ?[{_LETTER}]{{1,9}}|[0-9]{{1,3}}| ?(?:[^\w\s]|_){{1,3}}\n*|\s+|\w{{1,2}}")


@lru_cache(maxsize=4096)  # instructions and examples come with every request
def estimated_tokens(text: str) -> int:
    """Tokens of a text.

    >>> estimated_tokens("Words that name a month, as in January 1986.")
    13
    """
    return sum(1 for _ in _PIECE.finditer(text))


def request_tokens(request: Request) -> int:
    """Tokens of a request's messages, as they are estimated."""
    return sum(estimated_tokens(message.content) + CHAT_TEMPLATE_TOKENS for message in request.messages)


def fits(request: Request, context_tokens: int) -> bool:
    """Whether a request and its answer should fit into a context."""
    return request_tokens(request) + min(request.sampling.max_tokens, ROOM_FOR_AN_ANSWER) <= context_tokens


def certainly_exceeds(request: Request, context_tokens: int) -> bool:
    """Whether a server with this context would refuse the request, however its tokenizer counts."""
    return CERTAINLY * request_tokens(request) > context_tokens
