"""A request's schema, and the words in which its own description asks for the same.

Small models keep to a form better when they are told of it than when they are only held to it. The words belong to the
schema: where an endpoint has none, both are left out, and the model is asked for what the prompt asks for alone.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from sae_auto_interp.clients.http.json_values import as_object
from sae_auto_interp.types import Message, Request


def worded(request: Request) -> Sequence[Message]:
    """The messages, the last one ending in the description of the schema, where there is one."""
    words = _description(request.schema) if request.schema is not None else None
    if not words or not request.messages:
        return request.messages
    *before, last = request.messages
    return (*before, replace(last, content=f"{last.content}\n\n{words}"))


@lru_cache(maxsize=64)
def _description(schema: str) -> str | None:
    try:
        words = as_object(json.loads(schema)).get("description")
    except ValueError:
        return None  # who sends the schema says what is wrong with it
    return words if isinstance(words, str) else None
