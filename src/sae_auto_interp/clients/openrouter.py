"""OpenRouter, under the name that the original library has for it: `OpenRouter(model, api_key=...)`.

It passes a request on to one of several providers, which differ in what they do: what `prepare` finds out holds for
those that answered then.
"""

from dataclasses import dataclass

from sae_auto_interp.clients.http.api_key import ApiKey
from sae_auto_interp.clients.openai import OpenAIClient

_CHAT = "/chat/completions"


@dataclass(frozen=True, kw_only=True, eq=False, init=False)
class OpenRouter(OpenAIClient):
    """An OpenAIClient at openrouter.ai."""

    def __init__(
        self,
        model: str,
        api_key: str | None = None,
        base_url: str = "https://openrouter.ai/api/v1",
        *,
        api_key_env: str = "OPENROUTER_API_KEY",
        timeout_seconds: float = 120.0,
    ) -> None:
        """The key comes from `api_key`, which is kept in memory alone, or else from the environment.

        `base_url` may also be the address of its chat completions, as in the original.
        """
        if api_key is not None:  # before the endpoint is made, which reads the key
            self.__dict__["_key"] = ApiKey("api_key", api_key.strip())
        bare = base_url.removesuffix("/").removesuffix(_CHAT)
        super().__init__(base_url=bare, model=model, api_key_env=api_key_env, timeout_seconds=timeout_seconds)
