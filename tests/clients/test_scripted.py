"""ScriptedClient: the three forms of a script, what it remembers, and what it says when it has no answer."""

import pytest

from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.errors import ClientError, InputError, ServerError
from sae_auto_interp.protocols import Client
from sae_auto_interp.types import Message, Request, Response, Usage
from tests.support.llm_server import ask


def question(text: str) -> Request:
    return Request((Message("system", "Judge it."), Message("user", text)))


def test_a_list_answers_in_order_of_arrival_also_under_concurrency() -> None:
    client = ScriptedClient(["one", "two", "three"], latency_seconds=0.001)
    requests = [question(text) for text in "abc"]
    assert [response.text for response in ask(client, *requests)] == ["one", "two", "three"]
    assert client.requests == requests


def test_a_mapping_answers_by_the_first_key_that_occurs() -> None:
    client = ScriptedClient({"cats and dogs": "both", "cats": "one", "Judge": "none"})
    texts = [ask(client, question(text))[0].text for text in ("cats and dogs", "cats", "fish")]
    assert texts == ["both", "one", "none"]


def test_a_function_answers_from_the_request() -> None:
    client = ScriptedClient(lambda request: request.messages[-1].content.upper())
    assert ask(client, question("shout"))[0].text == "SHOUT"


def test_words_are_counted_as_tokens() -> None:
    (response,) = ask(ScriptedClient(["three words here"], model="judge"), question("is it so?"))
    assert response == Response("three words here", Usage(5, 3, 1), "stop", "judge")


def test_a_whole_response_is_given_as_it_is() -> None:
    whole = Response("cut", Usage(1, 2, 1), "length", "other")
    assert ask(ScriptedClient([whole]), question("?")) == [whole]


def test_a_client_error_in_the_script_is_raised() -> None:
    down = ServerError("down")
    with pytest.raises(ServerError) as caught:
        ask(ScriptedClient([down]), question("?"))
    assert caught.value is down


@pytest.mark.parametrize(
    ("client", "said"),
    [
        (ScriptedClient(["only one"]), r"the script has 1 answers and this is request 2: 'second'"),
        (ScriptedClient({"first": "yes", "third": "yes"}), r"no key of the script \('first', 'third'\).*'second'"),
    ],
)
def test_a_script_without_an_answer_is_a_mistake_and_no_client_error(client: ScriptedClient, said: str) -> None:
    ask(client, question("first"))
    with pytest.raises(InputError, match=said) as caught:
        ask(client, question("second"))
    assert not isinstance(caught.value, ClientError)


def test_a_bare_text_is_no_script() -> None:
    with pytest.raises(InputError, match="the script is the text 'yes'"):
        ScriptedClient("yes")


def test_it_is_a_client() -> None:
    assert isinstance(ScriptedClient([]), Client)
