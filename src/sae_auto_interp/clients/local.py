"""The name that the original library's README and scripts use for a model on this machine: `Local(model)`."""

from dataclasses import dataclass

from sae_auto_interp.clients.openai import OpenAIClient


@dataclass(frozen=True, kw_only=True, eq=False, init=False)
class Local(OpenAIClient):
    """An OpenAIClient whose endpoint is, unless another is named, where vLLM serves by itself."""

    def __init__(
        self,
        model: str | None = None,
        base_url: str = "http://localhost:8000/v1",
        *,
        api_key_env: str = "SAE_AUTO_INTERP_LOCAL_API_KEY",
        timeout_seconds: float = 600.0,
    ) -> None:
        """`model` None takes the only one that is served. OPENAI_API_KEY is not sent: it is no local server's."""
        super().__init__(base_url=base_url, model=model, api_key_env=api_key_env, timeout_seconds=timeout_seconds)
