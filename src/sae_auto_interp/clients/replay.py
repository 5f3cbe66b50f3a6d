"""No model at all: whatever is asked of it is not in the response cache, and that is an error.

Behind a `CachingClient` it makes a run that can be repeated anywhere at no cost, and that cannot spend anything.
"""

from dataclasses import dataclass

from sae_auto_interp.errors import NotStoredError
from sae_auto_interp.types import PromptLogprobs, PromptRequest, Request, Response


@dataclass(frozen=True, kw_only=True)
class ReplayClient:
    """Answers nothing, in the name of the model whose stored answers are replayed."""

    model: str

    async def generate(self, request: Request) -> Response:
        """Raises NotStoredError."""
        raise self._miss(request.messages[-1].content if request.messages else "")

    async def read(self, request: PromptRequest) -> PromptLogprobs:
        """Raises NotStoredError."""
        raise self._miss(request.text)

    async def close(self) -> None:
        """Nothing to close."""

    def _miss(self, end: str) -> NotStoredError:
        return NotStoredError(
            f"replay: the response cache holds no answer of {self.model} to the request that ends with {end[-80:]!r}; "
            "set responses.mode to use, and ask for it"
        )
