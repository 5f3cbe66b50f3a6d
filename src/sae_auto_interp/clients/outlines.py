"""The server of Outlines (`python -m outlines.serve.serve`), under the name that the original library has for it.

It is no OpenAI-compatible server: `/generate` takes a prompt and a JSON schema at the top level, as fields of vLLM's
SamplingParams, and gives back the prompt with what follows it. It knows no chats, so messages become one prompt here:
by the chat template of the model's tokenizer, where there is one, else one below the other.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sae_auto_interp.clients.http.api_key import ApiKey
from sae_auto_interp.clients.http.chat_completions import as_ascii
from sae_auto_interp.clients.http.endpoint import HttpEndpoint
from sae_auto_interp.clients.http.json_values import as_list
from sae_auto_interp.clients.http.thinking import thinking_length
from sae_auto_interp.clients.wrappers.billing import charged_probe
from sae_auto_interp.errors import MalformedReplyError, RefusedRequestError
from sae_auto_interp.types import Message, Request, Response, Usage


@dataclass(frozen=True, kw_only=True, eq=False, init=False)
class Outlines:
    """Client of an Outlines server. It counts no tokens, so usage holds requests alone."""

    model: str
    """The model that is served: its name in results, and the folder or hub id of its tokenizer."""
    base_url: str
    """Where the server is, without /generate."""
    timeout_seconds: float
    """Longest wait for one complete answer."""

    def __init__(self, model: str, base_url: str = "http://127.0.0.1:8000", *, timeout_seconds: float = 600.0) -> None:
        for name, value in (("model", model), ("base_url", base_url), ("timeout_seconds", timeout_seconds)):
            object.__setattr__(self, name, value)
        _ = self._http  # an address that cannot be used shows now

    async def prepare(self, memory: object = None) -> str:
        """Answer one short question; returns what the server is for. Raises what `generate` raises."""
        await charged_probe(self, Request((Message("user", "Say yes."),)))
        return "has: json_schema, seed, max_tokens; absent: top_logprobs, prompt_logprobs"

    async def generate(self, request: Request) -> Response:
        """Answer one request.

        Raises UnreachableError, TimeoutExceededError, RateLimitedError, ServerError (these four are worth
        retrying), RefusedRequestError or MalformedReplyError, and nothing else.
        """
        prompt = self._prompt(request.messages)
        body: dict[str, object] = {
            "prompt": prompt, "max_tokens": request.sampling.max_tokens, "temperature": request.sampling.temperature,
        }  # fmt: skip
        if request.sampling.seed is not None:
            body["seed"] = request.sampling.seed
        if request.schema is not None:
            body["schema"] = _parsed(request.schema)
        reply = self._http.object_in(await self._http.send("POST", "generate", as_ascii(body)))
        text = next(iter(as_list(reply.get("text"))), None)
        if not isinstance(text, str) or not text.startswith(prompt):
            raise MalformedReplyError(f"the answer does not begin with the prompt: {self._http.key.quote(str(text))}")
        answer = text[len(prompt) :]
        answer = answer[thinking_length(answer) :]
        if not answer:
            raise MalformedReplyError("the answer is empty; raise max_tokens if the model thinks before it answers")
        return Response(answer, Usage(n_requests=1), "unknown", self.model)

    async def close(self) -> None:
        """Close the connections; new ones are opened if it is used again, in another event loop too."""
        await self._http.close()

    def _prompt(self, messages: Sequence[Message]) -> str:
        template = getattr(self._tokenizer, "chat_template", None)
        if template is None:
            return "\n\n".join(message.content for message in messages) + "\n\n"
        chat = [{"role": message.role, "content": message.content} for message in messages]
        return self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)

    @cached_property
    def _tokenizer(self) -> Any:
        """The model's tokenizer, None where there is none to be had."""
        import transformers

        families: Any = transformers  # its types say less than they promise
        try:
            return families.AutoTokenizer.from_pretrained(self.model)
        except (OSError, ValueError):
            return None

    @cached_property
    def _http(self) -> HttpEndpoint:
        key = ApiKey("", "")  # the server takes none
        return HttpEndpoint(base_url=self.base_url, key=key, headers={}, timeout_seconds=self.timeout_seconds)


def _parsed(schema: str) -> object:
    try:
        return json.loads(schema)
    except ValueError as error:
        raise RefusedRequestError(f"the schema of the request is not JSON ({error}): {schema[:200]!r}") from None
