"""One server for all that scorers ask of models: chat, choices, listings, texts, embeddings, rated texts, and tokens
with their alternatives. Every answer depends on the text of its request alone."""

import json
import re
import zlib
from typing import Any

from tests.support.llm_server import Received, Reply, answer, json_reply
from tests.support.scripted_llm import MODEL, explain_and_judge

PIECES = re.compile(r"\w+|\s|[^\w\s]")


def respond(received: Received) -> Reply:
    if received.method == "GET":
        return explain_and_judge(received)
    if received.path.endswith("/embeddings"):
        texts = received.body["input"]
        return json_reply({"data": [{"index": i, "embedding": vector(text)} for i, text in enumerate(texts)]})
    if "messages" not in received.body:
        return rated(received.body)
    return chat(received)


def vector(text: str) -> list[float]:
    """Words, each in one of 64 directions."""
    counts = [0.01] * 64
    for word in re.findall(r"\w+", text.lower()):
        counts[zlib.crc32(word.encode()) % 64] += 1
    return counts


def chat(received: Received) -> Reply:
    body = received.body
    question = body["messages"][-1]["content"]
    if body.get("logprobs") and "response_format" not in body:  # verdicts are bound to a form, and asked for both
        token = str(zlib.crc32(question.encode("utf-8", "surrogatepass")) % 11)
        top = [{"token": token, "logprob": -0.4}, {"token": "0", "logprob": -1.2}]
        return answer(token, logprobs={"content": [{"token": token, "logprob": -0.4, "top_logprobs": top}]})
    if " tokens: [" in question:
        tokens = json.loads(question.partition(" tokens: ")[2])
        return answer(json.dumps({"tokens": [{"token": t, "level": min(9, len(t))} for t in tokens]}))
    if b"numbered texts" in received.raw_body:
        return answer("1, 4 and 9")
    if '"texts"' in json.dumps(body.get("response_format", {})):
        return answer(json.dumps({"texts": [f"def f{i}({question[-20:]!r}): return {i}" for i in range(4)]}))
    return explain_and_judge(received)


def rated(body: dict[str, Any]) -> Reply:
    """As vLLM does: each token of the prompt by its length, with two levels among its alternatives."""
    pieces = PIECES.findall(body["prompt"])

    def entry(i: int) -> dict[str, Any]:
        after = len("".join(pieces[max(0, i - 20) : i]))
        own = {"1": {"logprob": -1.0 - after % 5 / 4, "decoded_token": pieces[i]}}
        levels = {str(10 + n): {"logprob": -2.0 - n, "decoded_token": str((after + n) % 10)} for n in range(2)}
        return own | levels

    choice: dict[str, Any] = {"text": "x", "finish_reason": "length"}
    if "prompt_logprobs" in body:
        choice["prompt_logprobs"] = [None, *(entry(i) for i in range(1, len(pieces)))]
    return json_reply({"model": MODEL, "choices": [choice], "usage": {"prompt_tokens": len(pieces)}})
