"""Fuzzing within a window has the leaks of marks closed exactly; delphi's variant has them, and they are measured."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from sae_auto_interp.errors import ConfigError
from sae_auto_interp.protocols import Scorer
from sae_auto_interp.scorers import FuzzingDelphiScorer, FuzzingSameWindowScorer, FuzzingScorer
from sae_auto_interp.types import FeatureId, FeatureRecord, Score, ShownExample, Trial
from tests.support.evidence import PlainJudge, explanation_of, make_evidence, make_example, oracle, planted_record

Asked = list[tuple[ShownExample, Trial]]


def on_cat(tokens: Sequence[str], i: int) -> bool:
    return tokens[i] == " cat" or (i > 0 and tokens[i - 1] == "(")


RECORD = planted_record(on_cat, n=40)


def score_of(scorer: Scorer, record: FeatureRecord = RECORD) -> Score:
    return asyncio.run(scorer.score(record, explanation_of(record), "e"))


def ask(make: Callable[[PlainJudge], Scorer], record: FeatureRecord = RECORD) -> Asked:
    judge = PlainJudge(lambda shown: True)
    trials = score_of(make(judge), record).trials
    shown = [example for batch in judge.batches for example in batch]
    return list(zip(shown, [t for t in trials if t.failure is None], strict=True))


def marks(shown: ShownExample) -> tuple[bool, ...]:
    assert shown.highlighted is not None
    return shown.highlighted


def balanced_accuracy(asked: Asked, judge: Callable[[ShownExample], bool]) -> float:
    return float(
        np.mean([np.mean([judge(s) == target for s, t in asked if t.target == target]) for target in (True, False)])
    )


def best_rule_about_marks(asked: Asked) -> float:
    """Over "at least k marks" and "token p is marked", and their negations."""
    length = max(len(shown.str_tokens) for shown, _ in asked)
    rules = [lambda s, k=k: sum(marks(s)) >= k for k in range(1, length)]
    rules += [lambda s, p=p: marks(s)[p] for p in range(length)]
    found = [balanced_accuracy(asked, rule) for rule in rules]
    return max(max(value, 1 - value) for value in found)


def same_window(judge: PlainJudge) -> Scorer:
    return FuzzingSameWindowScorer(judge=judge)


def test_within_a_window_both_sides_have_the_same_windows_and_the_same_marks() -> None:
    asked = ask(same_window)
    for side in (lambda s: s.str_tokens, marks):
        assert Counter(side(s) for s, t in asked if t.target) == Counter(side(s) for s, t in asked if not t.target)
    assert best_rule_about_marks(asked) == 0.5
    assert balanced_accuracy(asked, lambda shown: " cat" in shown.str_tokens) == 0.5, "the context says nothing"
    assert Counter((t.target, t.source) for _, t in asked) == {(True, "activating"): 40, (False, "same_window"): 40}


def test_wrong_marks_are_never_on_a_token_that_fires() -> None:
    for shown, trial in ask(same_window):
        fired = [on_cat(shown.str_tokens, i) for i, marked in enumerate(marks(shown)) if marked]
        assert fired
        assert any(fired) == all(fired) == trial.target


def test_a_judge_who_knows_the_token_scores_1_and_one_who_knows_the_context_one_half() -> None:
    trials = score_of(FuzzingSameWindowScorer(judge=oracle(on_cat))).trials
    assert all(t.prediction == t.target for t in trials)
    knows_context = PlainJudge(lambda shown: " cat" in shown.str_tokens or "(" in shown.str_tokens)
    trials = score_of(FuzzingSameWindowScorer(judge=knows_context)).trials
    assert [t.prediction for t in trials] == [True] * 80


def test_marks_follow_from_seed_and_feature_alone() -> None:
    def negatives(record: FeatureRecord = RECORD, seed: int = 0, n_shown: int = 5) -> set[tuple[object, object]]:
        asked = ask(lambda judge: FuzzingSameWindowScorer(judge=judge, seed=seed, n_shown=n_shown), record)
        return {(s.str_tokens, s.highlighted) for s, t in asked if not t.target}

    assert negatives() == negatives(n_shown=7)
    assert negatives() != negatives(seed=1)
    assert negatives() != negatives(replace(RECORD, feature=FeatureId("transformer.h.1", 8)))


def test_windows_centred_on_their_peak_have_no_room_and_say_why() -> None:
    """Marks moved elsewhere would give themselves away by their place."""
    test = [make_example(["a"] * 8, [0, 0, 0, 0, 0, 0, 5, 0], document=d) for d in range(6)]
    score = score_of(FuzzingSameWindowScorer(judge=oracle(on_cat)), make_evidence(test=test))
    assert [t.failure.kind for t in score.trials if t.failure] == ["no_room"] * 12
    assert "features.windows=grid" in score.failures[0].message


def test_what_has_no_partner_is_left_out_on_both_sides() -> None:
    """One window fires everywhere: its marks fit nowhere, and no marks fit it."""
    test = [make_example(["a"] * 4, [1, 0, 0, 0], document=0), make_example(["a"] * 4, [0, 0, 3, 0], document=1)]
    test.append(make_example(["a"] * 4, [1, 1, 1, 1], document=2))
    trials = score_of(FuzzingSameWindowScorer(judge=PlainJudge(lambda s: True)), make_evidence(test=test)).trials
    assert Counter((t.document, t.failure is None) for t in trials) == {(0, True): 2, (1, True): 2, (2, False): 2}


def delphi(judge: PlainJudge) -> Scorer:
    return FuzzingDelphiScorer(judge=judge)


def test_delphis_marks_alone_tell_its_negatives_from_its_positives() -> None:
    """The regression: whoever looks at one token, or counts, needs no explanation. Ours is at one half."""
    asked = ask(delphi)
    place = 12 - 12 // 4
    assert all(marks(s)[place] for s, t in asked if not t.target)
    assert best_rule_about_marks(asked) > 0.85
    assert best_rule_about_marks(ask(lambda judge: FuzzingScorer(judge=judge))) == 0.5


def test_delphis_negatives_have_as_many_marks_as_positives_have_active_tokens_on_average() -> None:
    counts = [int((e.activations > 0).sum()) for e in RECORD.test]
    assert {sum(marks(s)) for s, t in ask(delphi) if not t.target} == {int(np.ceil(np.mean(counts)))}


def test_delphis_active_kind_marks_silent_tokens_of_the_same_windows() -> None:
    asked = ask(lambda judge: FuzzingDelphiScorer(judge=judge, negatives="active"))
    negatives = [shown for shown, t in asked if not t.target]
    assert {s.str_tokens for s in negatives} == {e.str_tokens for e in RECORD.test}
    assert not any(on_cat(s.str_tokens, i) for s in negatives for i, marked in enumerate(marks(s)) if marked)
    assert {t.source for _, t in asked if not t.target} == {"same_window"}


@pytest.mark.parametrize("scorer", [FuzzingSameWindowScorer, FuzzingDelphiScorer])
def test_settings_that_cannot_be_are_refused(scorer: type) -> None:
    with pytest.raises(ConfigError, match="n_shown=0"):
        scorer(judge=oracle(on_cat), n_shown=0)
    with pytest.raises(ConfigError, match="threshold=2"):
        scorer(judge=oracle(on_cat), threshold=2)


@pytest.mark.parametrize("scorer", [FuzzingSameWindowScorer, FuzzingDelphiScorer])
def test_an_empty_record_gives_no_trial(scorer: type) -> None:
    assert score_of(scorer(judge=oracle(on_cat)), make_evidence()).trials == ()
