"""One text for every feature: what any explanation must beat.

"Any text" is the generic explanation of METHODS' baselines: a judge that says yes to everything, or guesses, is seen.
"""

from dataclasses import dataclass
from typing import ClassVar

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.types import Explanation, Failure, FeatureRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class NoOpExplainer:
    """Asks nobody."""

    name: ClassVar[str] = "no_op"

    text: str = "any text"

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ConfigError("explainers.no_op.text is empty; give a text")

    async def explain(self, record: FeatureRecord) -> Explanation | Failure:
        return Explanation(record.feature, self.text, self.name, prompt_id="no_op-1")
