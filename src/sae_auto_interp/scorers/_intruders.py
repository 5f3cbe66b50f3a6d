"""Questions with one intruder: windows of one quantile in which the feature fires, and one in which it does not.

As in arXiv 2507.08473. All windows are marked; a silent intruder copies the marks of an activating window that is not
shown beside it, where there is one, so that its marks do not give it away. Each place is the intruder's equally often.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.scorers._choosing import ChoiceQuestion, placed, tie_order
from sae_auto_interp.scorers._marks import check_threshold, fitted, spread, strong_tokens
from sae_auto_interp.types import Example, Failure, FeatureRecord, ShownExample

Intruders = Literal["silent", "internal"]
Group = tuple[int | None, Sequence[Example]]


@dataclass(frozen=True, slots=True, kw_only=True)
class IntruderDesign:
    """How the questions of a feature are made."""

    n_trials: int
    n_choices: int
    threshold: float
    intruders: Intruders

    def check(self, scorer: str) -> None:
        """Raises `ConfigError` for an impossible design."""
        if self.n_trials < 1:
            raise ConfigError(f"scorers.{scorer}.n_trials={self.n_trials}; give at least 1")
        if self.n_choices < 3:
            raise ConfigError(f"scorers.{scorer}.n_choices={self.n_choices}; an intruder needs at least 2 others")
        check_threshold(scorer, self.threshold)

    def questions(self, record: FeatureRecord, rng: np.random.Generator) -> list[ChoiceQuestion] | Failure:
        """`n_trials` questions, the quantiles in turn; a `Failure` says what the record has too few of."""
        groups = [group for group in _by_quantile(record.test) if len(group[1]) >= self.n_choices - 1]
        if not groups:
            needed = f"no quantile has {self.n_choices - 1} activating test examples"
            return Failure("score", "too_few_examples", f"{needed}; raise features.n_test or lower n_choices")
        pools = [self._intruders_for(quantile, record) for quantile, _ in groups]
        if not all(pools):
            missing = "silent windows" if self.intruders == "silent" else "windows of another quantile"
            return Failure("score", "too_few_examples", f"the record has no {missing} to put among the others")
        places = spread(self.n_choices, self.n_trials, rng)
        draws = spread(min(map(len, pools)), self.n_trials, rng)
        turns = [t % len(groups) for t in range(self.n_trials)]
        return [
            self._question(groups[turn], pools[turn][draw], place, rng)
            for turn, draw, place in zip(turns, draws, places, strict=True)
        ]

    def _intruders_for(self, quantile: int | None, record: FeatureRecord) -> Sequence[Example]:
        if self.intruders == "silent":
            return record.non_activating.test
        return [example for example in record.test if example.quantile != quantile]

    def _question(self, group: Group, intruder: Example, place: int, rng: np.random.Generator) -> ChoiceQuestion:
        quantile, members = group
        order = [members[int(i)] for i in rng.permutation(len(members))]
        others = order[: self.n_choices - 1]
        lender = order[-1] if intruder.max_activation <= 0 else intruder
        mask = fitted(strong_tokens(lender, self.threshold), len(intruder.tokens))
        shown = placed(ShownExample(intruder.str_tokens, mask), [self._shown(example) for example in others], place)
        return ChoiceQuestion(shown, place, intruder, quantile, tie_order(self.n_choices, rng))

    def _shown(self, example: Example) -> ShownExample:
        return ShownExample(example.str_tokens, strong_tokens(example, self.threshold))


def _by_quantile(examples: Sequence[Example]) -> list[Group]:
    groups: Mapping[int | None, list[Example]] = defaultdict(list)
    for example in examples:
        groups[example.quantile].append(example)
    return sorted(groups.items(), key=lambda group: (group[0] is None, group[0] or 0))
