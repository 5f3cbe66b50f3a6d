"""The lexical explainer: how much of a feature does a rule about tokens explain? No language model.

In: the training examples and the silent windows meant for explaining. Out: a sentence stating which tokens, preceding
tokens and classes of tokens the feature fires on, with counts. Clauses come from the examples' peak tokens and are
chosen greedily: each next one is the clause that most improves the balanced accuracy of the rule on those training
windows. It is a baseline to put beside a language model's explanations, in the manner of a token-list explanation
(METHODS: baselines), with the silent windows keeping it from naming tokens that occur everywhere.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool

from sae_auto_interp.highlights import highlighted_tokens
from sae_auto_interp.lexical_rule import TOKEN_CLASSES, Clause, Support, write_rule
from sae_auto_interp.types import Array, Example, Explanation, Failure, FeatureRecord

RULE_FORMAT = "lexical_rule/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LexicalExplainer:
    """States a rule in words from the training examples."""

    name: ClassVar[str] = "lexical"

    max_clauses: int = 8
    """Longest rule."""
    min_gain: float = 0.01
    """Improvement in training balanced accuracy below which no further clause is added."""
    peak_fraction: float = 0.5
    """Tokens above this fraction of a window's maximum count as its peaks."""

    async def explain(self, record: FeatureRecord) -> Explanation | Failure:
        """Never fails on a complete record whose examples carry strings."""
        if not record.train or not record.train[0].str_tokens:
            return Failure("explain", "no_text", f"{record.feature}: the examples carry no strings; cache with a tokenizer")
        candidates = self._candidates(record.train)
        chosen = self._choose(candidates, record)
        supports = [Support(clause, candidates[clause]) for clause in chosen]
        return Explanation(record.feature, write_rule(supports, len(record.train)), self.name, RULE_FORMAT)

    def _candidates(self, train: Sequence[Example]) -> Counter[Clause]:
        """Clauses true of some peak, and in how many examples."""
        counts: Counter[Clause] = Counter()
        for example in train:
            peaks = np.flatnonzero(highlighted_tokens(example.activations, self.peak_fraction))
            counts.update({clause for peak in peaks for clause in _clauses_at(example.str_tokens, int(peak))})
        repeated = Counter({clause: n for clause, n in counts.items() if n >= 2})
        return repeated or counts

    def _choose(self, candidates: Counter[Clause], record: FeatureRecord) -> list[Clause]:
        clauses = sorted(candidates, key=lambda clause: (-candidates[clause], clause.words))
        hits_positive = _hits(clauses, record.train)
        hits_silent = _hits(clauses, record.non_activating.explain)
        chosen: list[int] = []
        covered, alarmed = np.zeros(hits_positive.shape[1], bool), np.zeros(hits_silent.shape[1], bool)
        accuracy = 0.5
        while len(chosen) < self.max_clauses:
            recall = (hits_positive | covered).mean(axis=1)
            false_alarms = (hits_silent | alarmed).mean(axis=1)
            accuracies = (recall + 1 - false_alarms) / 2
            best = int(accuracies.argmax())
            if chosen and accuracies[best] < accuracy + self.min_gain:
                break
            chosen.append(best)
            accuracy = float(accuracies[best])
            covered, alarmed = covered | hits_positive[best], alarmed | hits_silent[best]
        return [clauses[i] for i in chosen]


def _clauses_at(str_tokens: Sequence[str], position: int) -> list[Clause]:
    token = str_tokens[position]
    clauses = [Clause(token=token)] + [Clause(token_class=name) for name, holds in TOKEN_CLASSES.items() if holds(token)]
    if position > 0:
        previous = str_tokens[position - 1]
        clauses += [Clause(token=token, previous=previous), Clause(previous=previous)]
    return clauses


def _hits(clauses: Sequence[Clause], examples: Sequence[Example]) -> Bool[Array, "clauses examples"]:
    """Whether each clause holds anywhere in each window."""
    hits = np.zeros((len(clauses), len(examples)), dtype=bool)
    for column, example in enumerate(examples):
        present = {clause for i in range(len(example.str_tokens)) for clause in _clauses_at(example.str_tokens, i)}
        hits[:, column] = [clause in present for clause in clauses]
    return hits
