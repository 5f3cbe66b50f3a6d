"""The lexical explainer: how much of a feature does a rule about tokens explain? No language model.

In: the training examples and the silent windows meant for explaining. Out: a sentence stating which tokens, words,
preceding tokens and classes of tokens the feature fires on, with counts. Clauses come from the examples' peak tokens
and are chosen greedily: each next one is the clause that most improves the balanced accuracy of the rule on those
training windows. It is a baseline to put beside a language model's explanations, in the manner of a token-list
explanation, with the silent windows keeping it from naming tokens that occur everywhere.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, pairwise
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.prompting.highlights import highlighted_tokens
from sae_auto_interp.prompting.token_rules import Clause, Support, classes_of, word_in, write_rule
from sae_auto_interp.types import Array, Example, Explanation, Failure, FeatureRecord

RULE_FORMAT = "lexical_rule/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LexicalExplainer:
    """States a rule in words from the training examples."""

    name: ClassVar[str] = "lexical"

    max_clauses: int = 8
    """Longest rule."""
    min_gain: float = 0.005
    """Improvement in training balanced accuracy below which no further clause is added."""
    peak_fraction: float = 0.5
    """Tokens above this fraction of a window's maximum count as its peaks."""

    def __post_init__(self) -> None:
        if self.max_clauses < 1:
            raise ConfigError(f"explainers.lexical.max_clauses={self.max_clauses}; give at least 1")
        if not 0 <= self.peak_fraction < 1:
            raise ConfigError(
                f"explainers.lexical.peak_fraction={self.peak_fraction}; give a fraction from 0 to below 1"
            )

    async def explain(self, record: FeatureRecord) -> Explanation | Failure:
        """Never fails on a complete record whose examples carry strings."""
        if not all(example.str_tokens for example in (*record.train, *record.non_activating.explain)):
            reason = "the examples carry no strings; cache with a tokenizer, or give the loader a vocabulary"
            return Failure("explain", "no_text", f"{record.feature}: {reason}")
        at_peaks = [self._clauses_at_peaks(example) for example in record.train]
        counts = Counter(clause for clauses in at_peaks for clause in clauses)
        if not counts:
            return Failure("explain", "no_examples", f"{record.feature} fires in none of its training examples")
        supports = [Support(clause, counts[clause]) for clause in self._choose(_candidates(counts), at_peaks, record)]
        return Explanation(record.feature, write_rule(supports, len(record.train)), self.name, RULE_FORMAT)

    def _clauses_at_peaks(self, example: Example) -> set[Clause]:
        peaks = np.flatnonzero(highlighted_tokens(example.activations, self.peak_fraction))
        return {clause for peak in peaks for clause in _clauses_at(example.str_tokens, int(peak))}

    def _choose(
        self, clauses: Sequence[Clause], at_peaks: Sequence[set[Clause]], record: FeatureRecord
    ) -> list[Clause]:
        """Greedily, the clauses of a rule; of equally good ones the first.

        A training window counts half for a clause that holds anywhere in it, as detection asks, and half for one that
        holds on a peak, as fuzzing asks: a word that merely accompanies the peaks is not what the feature fires on.
        """
        row_of = {clause: row for row, clause in enumerate(clauses)}
        held_at_peaks = np.zeros((len(clauses), len(at_peaks)), dtype=bool)
        for column, held in enumerate(at_peaks):
            held_at_peaks[[row_of[clause] for clause in held if clause in row_of], column] = True
        sought = _Sought(row_of)
        recall = (sought.held_in(record.train) + held_at_peaks.astype(float)) / 2
        alarm = sought.held_in(record.non_activating.explain).astype(float)
        chosen: list[int] = []
        covered, alarmed = np.zeros(recall.shape[1]), np.zeros(alarm.shape[1])
        accuracy = 0.5
        while len(chosen) < self.max_clauses:
            accuracies = (_mean(np.maximum(recall, covered)) + 1 - _mean(np.maximum(alarm, alarmed))) / 2
            best = int(accuracies.argmax())
            gain = float(accuracies[best]) - accuracy
            if chosen and (gain <= 0 or gain < self.min_gain):
                break
            chosen.append(best)
            accuracy = float(accuracies[best])
            covered, alarmed = np.maximum(covered, recall[best]), np.maximum(alarmed, alarm[best])
        return [clauses[i] for i in chosen]


def _candidates(counts: Counter[Clause]) -> list[Clause]:
    """Clauses true of peaks in two examples or more (of one, where none is): commonest first, then simplest."""
    repeated = [clause for clause, n in counts.items() if n >= 2]

    def order(clause: Clause) -> tuple[int, bool, bool, str]:
        return -counts[clause], clause.previous is not None, clause.token is None, clause.words

    return sorted(repeated or counts, key=order)


def _clauses_at(str_tokens: Sequence[str], position: int) -> tuple[Clause, ...]:
    return _clauses_of(str_tokens[position], str_tokens[position - 1] if position > 0 else None)


@lru_cache(maxsize=1 << 14)
def _clauses_of(token: str, previous: str | None) -> tuple[Clause, ...]:
    """Every clause that holds of a token after `previous` (None: it is the window's first)."""
    clauses = [Clause(token=token)]
    clauses += [Clause(token_class=name) for name in classes_of(token)]
    word = word_in(token)
    if word is not None:
        clauses.append(Clause(word=word))
    if previous is not None:
        clauses += [Clause(token=token, previous=previous), Clause(previous=previous)]
    return tuple(clauses)


class _RowsOfToken(dict[str, list[int]]):
    """{token: rows of the clauses about that token alone}, filled as tokens are looked up."""

    def __init__(self, row_of: Mapping[Clause, int]) -> None:
        super().__init__()
        self._row_of = row_of

    def __missing__(self, token: str) -> list[int]:
        clauses = _clauses_of(token, None)
        rows = self[token] = [self._row_of[clause] for clause in clauses if clause in self._row_of]
        return rows


class _Sought:
    """Clauses by what they are about, so that all of them are looked for in a window at once."""

    def __init__(self, row_of: Mapping[Clause, int]) -> None:
        self._n_clauses = len(row_of)
        self._alone = _RowsOfToken(row_of)
        after = [(clause, row) for clause, row in row_of.items() if clause.previous is not None]
        self._previous = {clause.previous: row for clause, row in after if clause.token is None}
        self._pairs = {(clause.previous, clause.token): row for clause, row in after if clause.token is not None}

    def held_in(self, examples: Sequence[Example]) -> Bool[Array, "clauses examples"]:
        """Whether each clause holds anywhere in each window."""
        holds = np.zeros((self._n_clauses, len(examples)), dtype=bool)
        for column, example in enumerate(examples):
            holds[self._rows_in(example.str_tokens), column] = True
        return holds

    def _rows_in(self, str_tokens: Sequence[str]) -> list[int]:
        """Rows of the clauses that hold somewhere in a window, some of them several times."""
        rows = list(chain.from_iterable(map(self._alone.__getitem__, set(str_tokens))))
        rows += [self._previous[token] for token in self._previous.keys() & str_tokens[:-1]]
        rows += [self._pairs[pair] for pair in self._pairs.keys() & pairwise(str_tokens)]
        return rows


def _mean(per_window: Float[Array, "clauses examples"]) -> Float[Array, " clauses"]:
    """Mean over the windows; 0 where there are none."""
    return per_window.sum(axis=1) / max(1, per_window.shape[1])
