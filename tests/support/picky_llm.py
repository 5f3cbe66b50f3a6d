"""A language model that explains and judges with or without a schema, and servers before it that refuse, fail or err.

LlmServer(refusing(has_lengths, 400, "not supported"))
"""

import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from tests.support.llm_server import Received, Reply, answer, error, json_reply

MODEL = "my-model"
Script = Callable[[Received], Reply]


def willing(received: Received) -> Reply:
    """Answers all that a run asks; by schema where there is one, else in text. It holds to any schema."""
    if received.method == "GET":
        return json_reply({"object": "list", "data": [{"id": MODEL, "object": "model"}]})
    if "messages" not in received.body:
        return error(400 if received.path.endswith("chat/completions") else 404)
    wanted = received.body.get("response_format", {}).get("json_schema", {}).get("schema")
    asked = "\n\n".join(message["content"] for message in received.body["messages"])
    excerpts = asked.split("Description: ")[-1].split("Excerpt ")[1:] if "Description: " in asked else []
    verdicts = [int(any(c.isupper() for c in text)) for text in excerpts]
    explanation = f"words of kind {zlib.crc32(asked.encode())}"
    if wanted is None:
        return answer(json.dumps(verdicts) if verdicts else f"[EXPLANATION]: {explanation}")
    values = {"verdicts": verdicts, "explanation": explanation}
    return answer(json.dumps({name: values.get(name, _least(of)) for name, of in wanted["properties"].items()}))


def refusing(is_refused: Callable[[Mapping[str, Any]], bool], status: int, words: str) -> Script:
    """The willing model behind a server that refuses some bodies."""

    def reply(received: Received) -> Reply:
        is_chat = received.method == "POST" and "messages" in received.body
        return error(status, words) if is_chat and is_refused(received.body) else willing(received)

    return reply


def has_lengths(body: Mapping[str, Any]) -> bool:
    return "minItems" in json.dumps(body)


def has_schema(body: Mapping[str, Any]) -> bool:
    return "response_format" in body


def has_system(body: Mapping[str, Any]) -> bool:
    return any(message["role"] == "system" for message in body["messages"])


def _least(schema: Mapping[str, Any]) -> object:
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "array":
        return [_least(schema["items"])] * schema.get("minItems", 1)
    return ""
