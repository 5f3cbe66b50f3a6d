"""A language model that answers like one, without being one: for runs over a real socket."""

import json
import zlib

from tests.support.llm_server import Received, Reply, answer, json_reply

MODEL = "my-model"


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
    if "choice" in properties and excerpts:
        return answer(json.dumps({"choice": zlib.crc32(received.raw_body) % len(excerpts) + 1}))
    if "verdicts" not in properties:  # it is asked what it can do: it keeps to any schema
        return answer(json.dumps({name: value["enum"][0] for name, value in properties.items()}))
    return answer(json.dumps({"verdicts": [int(any(c.isupper() for c in text)) for text in excerpts]}))


def is_of_the_run(body: bytes) -> bool:
    """Whether the process lived to send all of it, and not to find out what the server can do."""
    try:
        content = json.loads(body)
    except ValueError:
        return False
    return "messages" in content and content["messages"][0]["role"] == "system"
