r"""What a reasoning model thought before it answered is no part of the answer.

Servers with a reasoning parser put it into a field of its own (`reasoning_content`, `reasoning`), which is never read.
The others leave it in the text: `<think>...</think>answer`, or, where the chat template wrote the opening tag,
`...\n</think>\n\nanswer`. An answer may speak of these tags too (a feature may fire on them), so only a block that
begins the text, or a closing tag on a line of its own, is taken for thinking.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from sae_auto_interp.types import TokenLogprob

_OPENING = re.compile(r"\s*<think(?:ing)?>")
_CLOSING = re.compile(r"</think(?:ing)?>\s*")
_CLOSING_LINE = re.compile(r"^[ \t]*</think(?:ing)?>[ \t]*$\s*", re.MULTILINE)


def thinking_length(text: str) -> int:
    """Characters of thinking at the beginning of a text; all of them when it never ends.

    >>> thinking_length("<think>1 + 1</think> 2"), thinking_length("fires on </think> tags")
    (21, 0)
    """
    if _OPENING.match(text):
        end = _CLOSING.search(text)
        return end.end() if end else len(text)
    end = _CLOSING_LINE.search(text)
    return end.end() if end else 0


def without_first(tokens: Sequence[TokenLogprob] | None, n_characters: int) -> tuple[TokenLogprob, ...] | None:
    r"""The tokens behind the first characters; one that lies across the border keeps what is behind it.

    >>> [token.token for token in without_first([TokenLogprob("a\n\n", -1.0), TokenLogprob("b", -1.0)], 2) or ()]
    ['\n', 'b']
    """
    if tokens is None or n_characters == 0:
        return None if tokens is None else tuple(tokens)
    kept: list[TokenLogprob] = []
    for token in tokens:
        left = token.token[n_characters:]
        n_characters = max(0, n_characters - len(token.token))
        if left:
            kept.append(token if left == token.token else replace(token, token=left))
    return tuple(kept)
