"""The words of a schema: said where the schema is sent, and only there."""

import json
from dataclasses import replace

import pytest

from sae_auto_interp.clients.http.capabilities import Capabilities
from sae_auto_interp.clients.http.chat_completions import encode_request
from sae_auto_interp.clients.http.schema_words import worded
from sae_auto_interp.explainers._asking import JSON_ANSWER, answer_schema
from sae_auto_interp.types import Message, Request

REQUEST = Request((Message("system", "You explain."), Message("user", "a cat")), schema=answer_schema(JSON_ANSWER))
WORDS = 'Answer with JSON and nothing else: an object with one key, "explanation", whose value is the sentence.'
WITHOUT = Capabilities(
    json_schema=False, choice_field=None, top_logprobs=0, prompt_logprobs=None, n=False, seed=False, max_tokens=True
)


@pytest.mark.parametrize("known", [None, replace(WITHOUT, json_schema=True)])
def test_where_the_endpoint_has_schemas_they_are_sent_and_said(known: Capabilities | None) -> None:
    body = encode_request(REQUEST, "m", known)
    assert body["messages"] == [
        {"role": "system", "content": "You explain."},
        {"role": "user", "content": f"a cat\n\n{WORDS}"},
    ]
    assert "response_format" in body


def test_where_it_has_none_the_prompt_alone_says_what_to_answer() -> None:
    body = encode_request(REQUEST, "m", WITHOUT)
    assert "JSON" not in json.dumps(body)
    assert body == encode_request(replace(REQUEST, schema=None), "m", WITHOUT)


@pytest.mark.parametrize("schema", [None, '{"type": "object"}', '{"description": 1}', "[]", "no JSON"])
def test_a_schema_without_words_changes_no_message(schema: str | None) -> None:
    assert worded(replace(REQUEST, schema=schema)) == REQUEST.messages
