"""Rankings by an embedding model, against cosines and AUROCs computed by hand."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from sae_auto_interp.errors import ConfigError, RateLimitedError
from sae_auto_interp.judges import EmbeddingJudge
from sae_auto_interp.metrics import auroc, choice_accuracy
from sae_auto_interp.protocols import Scorer
from sae_auto_interp.scorers import (
    DetectionScorer,
    EmbeddingScorer,
    ExampleEmbeddingScorer,
    FuzzingScorer,
    IntruderScorer,
)
from sae_auto_interp.types import Explanation, Failure, FeatureRecord, Score, ShownExample, Verdict
from tests.support.embedders import WordsEmbedder
from tests.support.evidence import FEATURE, make_evidence, make_example, planted_record

EXPLANATION = Explanation(FEATURE, "cat or dog", "by_hand", "by_hand-1")


def score_of(scorer: Scorer, record: FeatureRecord, explanation: Explanation = EXPLANATION) -> Score:
    return asyncio.run(scorer.score(record, explanation, "e"))


def fires(tokens: Sequence[str], i: int) -> bool:
    return tokens[i] == " cat"


def test_each_window_is_ranked_by_its_cosine_with_the_explanation() -> None:
    test = [make_example([" cat"], [1], document=0, quantile=3), make_example([" cat", " sat"], [1, 0], document=1)]
    silent = [make_example([" the", " sun"], document=2, source="neighbour")]
    score = score_of(EmbeddingScorer(embedder=WordsEmbedder()), make_evidence(test=test, silent=silent))
    expected = [1 / np.sqrt(3), 1 / np.sqrt(6), 0.0]
    assert [t.confidence for t in score.trials] == pytest.approx(expected, abs=1e-6)
    assert [(t.target, t.source, t.quantile, t.document) for t in score.trials] == [
        (True, "activating", 3, 0), (True, "activating", None, 1), (False, "neighbour", None, 2),
    ]  # fmt: skip
    assert (score.kind, {t.prediction for t in score.trials}) == ("ranking", {None})


def test_auroc_is_that_of_the_cosines_ties_included() -> None:
    record = planted_record(fires, n=30)
    score = score_of(EmbeddingScorer(embedder=WordsEmbedder()), record)
    bags = [e.text.split() for e in (*record.test, *record.non_activating.test)]
    words = sorted({w.strip("().,:").lower() for bag in bags for w in bag})
    found = auroc(score).value
    targets = [t.target for t in score.trials]
    assert found == pytest.approx(roc_auc_score(targets, [t.confidence for t in score.trials]))
    assert found is not None
    assert found > 0.8
    assert len(words) > 10


def test_the_length_of_the_vectors_does_not_matter_and_a_prefix_is_put_before_the_explanation() -> None:
    record = planted_record(fires, n=10)
    embedder = WordsEmbedder(scale=7.0)
    prefixed = score_of(EmbeddingScorer(embedder=embedder, query_prefix="Find: "), record)
    assert embedder.calls[1] == ["Find: cat or dog"]
    assert embedder.calls[0] == [e.text for e in (*record.test, *record.non_activating.test)]
    assert score_of(EmbeddingScorer(embedder=WordsEmbedder()), record) == score_of(
        EmbeddingScorer(embedder=WordsEmbedder(scale=7.0)), record
    )
    assert prefixed != score_of(EmbeddingScorer(embedder=embedder), record)


@pytest.mark.parametrize("make", [EmbeddingScorer, ExampleEmbeddingScorer])
def test_trouble_with_the_model_fails_every_window_with_its_kind(make: type) -> None:
    record = planted_record(fires, n=12)
    score = score_of(make(embedder=WordsEmbedder(error=RateLimitedError("429"))), record)
    assert {t.failure for t in score.trials} == {Failure("score", "rate_limited", "429")}
    assert {t.confidence for t in score.trials} == {None}
    assert auroc(score).n_failed == 24


@pytest.mark.parametrize("make", [EmbeddingScorer, ExampleEmbeddingScorer])
def test_windows_without_strings_fail(make: type) -> None:
    record = planted_record(fires, n=12)
    bare = replace(record, test=(replace(record.test[0], str_tokens=()), *record.test[1:]))
    score = score_of(make(embedder=WordsEmbedder()), bare)
    assert [t.failure.kind for t in score.trials if t.failure] == ["no_text"]


def test_examples_find_their_like_without_an_explanation() -> None:
    record = planted_record(fires, n=40)
    score = score_of(ExampleEmbeddingScorer(embedder=WordsEmbedder()), record)
    assert [t.target for t in score.trials] == [True, False] * 40
    found = auroc(score).value
    assert found is not None
    assert found > 0.8
    other = score_of(ExampleEmbeddingScorer(embedder=WordsEmbedder()), record, replace(EXPLANATION, text="anything"))
    assert score == other, "no explanation is read"


def test_a_feature_that_fires_at_random_has_nothing_to_resemble() -> None:
    """The same windows on both sides but for where marks are: AUROC near one half."""
    rng = np.random.default_rng(0)
    aurocs = []
    for _ in range(8):
        record = planted_record(lambda tokens, i: bool(rng.random() < 0.06), n=30, seed=int(rng.integers(1 << 30)))
        aurocs.append(auroc(score_of(ExampleEmbeddingScorer(embedder=WordsEmbedder()), record)).value)
    assert abs(np.mean(aurocs) - 0.5) < 3 * np.sqrt(61 / (12 * 30 * 30) / 8)  # standard error under the null


def test_a_window_lies_at_the_difference_of_its_mean_cosines() -> None:
    train = [make_example([" cat"], [1]), make_example([" cat", " sat"], [1, 0])]
    explain = [make_example([" sun"]), make_example([" sun", " sat"])]
    record = make_evidence(train, [make_example([" cat"], [1])], explain, [make_example([" sat"], document=9)])
    score = score_of(ExampleEmbeddingScorer(embedder=WordsEmbedder(), n_examples=2), record)
    half = 1 / np.sqrt(2)
    assert [t.confidence for t in score.trials] == pytest.approx([(1 + half) / 2, half / 2 - half / 2], abs=1e-6)


def test_too_few_examples_to_compare_with_are_a_reason() -> None:
    score = score_of(ExampleEmbeddingScorer(embedder=WordsEmbedder()), planted_record(fires, n=9))
    assert {f.kind for f in score.failures} == {"too_few_examples"}
    assert "the record has 9 examples of each kind for comparison and 10 are wanted" in score.failures[0].message
    with pytest.raises(ConfigError, match="n_examples=0"):
        ExampleEmbeddingScorer(embedder=WordsEmbedder(), n_examples=0)


def judged(shown: list[ShownExample], threshold: float = 0.5) -> list[Verdict | Failure]:
    judge = EmbeddingJudge(embedder=WordsEmbedder(), threshold=threshold)
    return asyncio.run(judge.judge("cat", shown, "detection"))[0]


def test_as_a_judge_it_says_yes_from_the_threshold_on() -> None:
    shown = [ShownExample((" cat",)), ShownExample((" cat", " sat")), ShownExample((" dog",))]
    half = round(float(1 / np.sqrt(2)), 6)
    assert judged(shown) == [Verdict(True, 1.0), Verdict(True, round((1 + half) / 2, 6)), Verdict(False, 0.5)]
    verdicts = judged(shown, threshold=0.9)
    assert [v.matches for v in verdicts if isinstance(v, Verdict)] == [True, False, False]


def test_of_marked_examples_it_reads_the_marked_tokens() -> None:
    shown = ShownExample((" the", " cat", " dog", " sat", " cat"), (False, True, False, False, True))
    assert judged([shown]) == [Verdict(True, 1.0)]


def test_it_serves_every_classification_scorer_and_compares_without_an_explanation() -> None:
    record = planted_record(fires, n=20)
    judge = EmbeddingJudge(embedder=WordsEmbedder(), threshold=0.1)
    for scorer in (DetectionScorer(judge=judge), FuzzingScorer(judge=judge)):
        found = auroc(score_of(scorer, record, replace(EXPLANATION, text="cat"))).value
        assert found is not None
        assert found > 0.8
    intruder = score_of(IntruderScorer(judge=judge, n_trials=40), record)
    found = choice_accuracy(intruder).value
    assert found is not None
    assert found > 0.8


def test_trouble_with_the_model_fails_every_verdict() -> None:
    judge = EmbeddingJudge(embedder=WordsEmbedder(error=RateLimitedError("429")), threshold=0.1)
    broken = Failure("score", "rate_limited", "429")
    assert asyncio.run(judge.judge("cat", [ShownExample(("a",))] * 2, "detection"))[0] == [broken] * 2
    assert asyncio.run(judge.choose(None, [ShownExample(("a",))] * 3, "intruder"))[0] == broken
    with pytest.raises(ConfigError, match="threshold=3"):
        EmbeddingJudge(embedder=WordsEmbedder(), threshold=3)
