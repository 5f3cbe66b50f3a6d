"""A judge that knows what the planted explanations mean, and errs exactly as often as it is told to.

Without errors it is the oracle: whatever a scorer asks, its score must be perfect. With a miss rate a and a false-alarm
rate b, balanced accuracy must be 1 - (a + b) / 2 up to the sampling of its errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.planted.rules import Rule, rule_of
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Failure, ShownExample, Usage, Verdict

UNKNOWN = Failure(
    "score", "no_rule", "the explanation is none of the planted ones, so the planted judge cannot know it"
)


def fits(rule: Rule, shown: ShownExample) -> bool:
    """Whether a rule holds anywhere in an example; of one with marks, whether it holds at every mark."""
    places = rule.places(shown.str_tokens)
    if shown.highlighted is None:
        return any(places)
    marked = [place for place, is_marked in zip(places, shown.highlighted, strict=True) if is_marked]
    return bool(marked) and all(marked)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedJudge:
    """Errors depend on the seed, the explanation and the example alone, whatever else is asked."""

    miss_rate: float = 0.0
    """Probability of no where the answer is yes."""
    false_alarm_rate: float = 0.0
    """Probability of yes where the answer is no."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("miss_rate", "false_alarm_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"PlantedJudge.{name}={getattr(self, name)}; give a probability")

    @property
    def name(self) -> str:
        return f"planted:{self.miss_rate:g},{self.false_alarm_rate:g}"

    async def judge(
        self, explanation: str, examples: Sequence[ShownExample], task: str
    ) -> tuple[list[Verdict | Failure], Usage]:
        """A verdict on each example alone; every one is a failure where the explanation is no planted one."""
        rule = rule_of(explanation)
        if rule is None:
            return [UNKNOWN] * len(examples), Usage()
        return [Verdict(self._answer(explanation, rule, shown, task)) for shown in examples], Usage()

    def _answer(self, explanation: str, rule: Rule, shown: ShownExample, task: str) -> bool:
        truth = fits(rule, shown)
        asked = "\0".join((task, explanation, "".join(shown.str_tokens), repr(shown.highlighted)))
        errs = derived_rng(self.seed, asked).random() < (self.miss_rate if truth else self.false_alarm_rate)
        return truth != bool(errs)
