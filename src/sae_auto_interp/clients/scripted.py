"""A language model that says what it was told to: for tests, examples and documentation.

The script is one of

- a list: one answer per request, in the order in which the requests arrive;
- a mapping from a piece of text to an answer: the first key that occurs in the messages answers;
- a function from the request to an answer.

An answer is a text, a whole Response, or a ClientError, which is raised. A script that has no answer is a mistake
in the test and not a failure of a model, so it raises InputError, which no worker turns into a `Failure`.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TypeAlias

from sae_auto_interp.errors import ClientError, InputError
from sae_auto_interp.types import Request, Response, Usage

Answer: TypeAlias = str | Response | ClientError
Script: TypeAlias = Sequence[Answer] | Mapping[str, Answer] | Callable[[Request], Answer]


@dataclass(frozen=True, eq=False)
class ScriptedClient:
    """Answers from a script and remembers every request. Counts a word (as `str.split` does) as a token.

    Raises InputError when the script is a single text, or has no answer for a request.
    """

    script: Script = field(repr=False)
    _: KW_ONLY
    model: str = "scripted"
    latency_seconds: float = 0.0
    """How long each answer takes."""
    requests: list[Request] = field(default_factory=list[Request], init=False, repr=False)
    """Every request so far, in order of arrival."""

    def __post_init__(self) -> None:
        if isinstance(self.script, str):
            raise InputError(f"the script is the text {self.script[:60]!r}; write [text], a mapping or a function")

    async def generate(self, request: Request) -> Response:
        """Answer one request; raises the ClientError in the script, where the answer is one."""
        self.requests.append(request)
        answer = self._answer(request, len(self.requests))  # before waiting: a list answers in order of arrival
        if self.latency_seconds:
            await asyncio.sleep(self.latency_seconds)
        if isinstance(answer, ClientError):
            raise answer
        return answer if isinstance(answer, Response) else self._respond(request, answer)

    async def close(self) -> None:
        """Nothing to close."""

    def _answer(self, request: Request, number: int) -> Answer:
        if callable(self.script):
            return self.script(request)
        if isinstance(self.script, Mapping):
            return _first_match(self.script, request)
        if number > len(self.script):
            raise InputError(f"the script has {len(self.script)} answers and this is request {number}: {_end(request)}")
        return self.script[number - 1]

    def _respond(self, request: Request, text: str) -> Response:
        prompt_words = sum(len(message.content.split()) for message in request.messages)
        return Response(text, Usage(prompt_words, len(text.split()), n_requests=1), "stop", self.model)


def _first_match(script: Mapping[str, Answer], request: Request) -> Answer:
    text = "\n".join(message.content for message in request.messages)
    for key, answer in script.items():
        if key in text:
            return answer
    raise InputError(f"no key of the script ({', '.join(map(repr, script))}) occurs in the request: {_end(request)}")


def _end(request: Request) -> str:
    return repr(request.messages[-1].content[-200:]) if request.messages else "(no messages)"
