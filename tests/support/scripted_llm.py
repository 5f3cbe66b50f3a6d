"""A language model that answers like one, without being one: for runs over a real socket."""

import json
import zlib
from typing import Any

from tests.support.llm_server import Received, Reply, answer, json_reply

MODEL = "my-model"
CAPABILITY_PROBES = ("the single word green", "one to one hundred in words", "thirty random letters")
"""What a run asks to find out what a server can do; where that has no role `system`, nothing else tells them apart."""


def explain_and_judge(received: Received) -> Reply:
    """An explanation where text is asked for, one verdict per excerpt, or one choice, where these are; lists one model.

    Of all that it is asked before a run, it has schemas alone.

    The verdict is 1 where an excerpt has a capital letter: some are right, some are wrong, all depend on the text only.
    """
    if received.method == "GET":
        return json_reply({"object": "list", "data": [{"id": MODEL, "object": "model"}]})
    if "response_format" not in received.body:
        kind = zlib.crc32(received.raw_body)  # no two features get the same explanation
        return answer(f"[EXPLANATION]: words of kind {kind}")
    properties = received.body["response_format"]["json_schema"]["schema"]["properties"]
    excerpts = received.body["messages"][-1]["content"].split("Excerpt ")[1:]
    if "explanation" in properties:
        return answer(json.dumps({"explanation": f"words of kind {zlib.crc32(received.raw_body)}"}))
    if "choice" in properties and excerpts:
        return answer(json.dumps({"choice": zlib.crc32(received.raw_body) % len(excerpts) + 1}))
    if "verdicts" not in properties:  # it is asked what it can do: it keeps to any schema
        return answer(json.dumps({name: _least(value) for name, value in properties.items()}))
    return answer(json.dumps({"verdicts": [int(any(c.isupper() for c in text)) for text in excerpts]}))


def _least(schema: dict[str, Any]) -> object:
    """A value that keeps to a schema of a number, or of a list of fixed length."""
    return schema["enum"][0] if "enum" in schema else [_least(schema["items"])] * schema["minItems"]


def is_of_the_run(body: bytes) -> bool:
    """Whether the process lived to send all of it, and not to find out what the server can do."""
    try:
        content = json.loads(body)
    except ValueError:
        return False
    asked = [message["content"] for message in content.get("messages", [])]
    return asked != [] and not any(words in asked[-1] for words in CAPABILITY_PROBES)
