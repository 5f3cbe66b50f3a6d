"""Behaviour that any tool of this kind should have, on highlights, replies, probabilities and metrics.

The numbers are those of the checks that the peer was put to (its failures are why most of them are here).
"""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.explainers import SimpleExplainer, TokenActivationPairsExplainer
from sae_auto_interp.judges import LlmJudge
from sae_auto_interp.metrics import auroc, balanced_accuracy, f1, precision, recall
from sae_auto_interp.metrics.classification import confusion
from sae_auto_interp.prompting.highlights import highlighted_tokens, marked_text, normalised_activations
from sae_auto_interp.scorers import DetectionScorer, FuzzingDelphiScorer, FuzzingScorer
from sae_auto_interp.types import Explanation, Failure, Response, ShownExample, TokenLogprob, Usage, Verdict
from tests.metrics.scores import make_score
from tests.support.evidence import PlainJudge, explanation_of, make_evidence, make_example, planted_record

TOKENS, ACTIVATIONS = ["a", " b", " c", " d"], np.array([0, 1, 2, 0], np.float32)


def test_10_activations_are_normalised_to_whole_tenths_of_the_maximum() -> None:
    """[0, 0, 5, 10] by the floor; [0, 1, 5, 10] where the ceiling is asked for, as the peer takes it."""
    assert normalised_activations(np.array([0, 0.01, 5, 10]), 10) == [0, 0, 5, 10]
    assert normalised_activations(np.array([0.0, 0.0]), 0) == [0, 0]
    record = make_evidence([make_example(TOKENS, [0, 0.01, 5, 10])])
    request = TokenActivationPairsExplainer(client=ScriptedClient([]), rounding="ceil").request(record)
    lines = request.messages[-1].content.split("<start>\n")[1].split("\n<end>")[0].splitlines()
    assert [int(line.split("\t")[1]) for line in lines] == [0, 1, 5, 10]


@pytest.mark.parametrize(("fraction", "text"), [(0.3, "a<< b c>> d"), (0.6, "a b<< c>> d")])
def test_11_runs_above_the_threshold_are_marked(fraction: float, text: str) -> None:
    marked = highlighted_tokens(ACTIVATIONS, fraction).tolist()
    assert marked_text(TOKENS, marked, ("<<", ">>")) == text


def shown_by(scorer: type[FuzzingScorer] | type[FuzzingDelphiScorer], n_silent: int = 12) -> list[ShownExample]:
    """The negatives: windows of four tokens, two of them marked in the one positive."""
    judge = PlainJudge(lambda shown: True)
    test = [make_example(TOKENS, [0, 1, 2, 0])]
    silent = [make_example([f" {i}a", " b", " c", " d", " e", " f"], document=1 + i) for i in range(n_silent)]
    record = make_evidence(test=test, silent=silent)
    asyncio.run(scorer(judge=judge).score(record, explanation_of(record), "e"))
    return [shown for batch in judge.batches for shown in batch if shown.str_tokens != tuple(TOKENS)]


def test_12_negatives_have_exactly_as_many_marks_seeded_and_not_all_in_the_same_place() -> None:
    negatives = shown_by(FuzzingDelphiScorer)
    assert {sum(shown.highlighted or ()) for shown in negatives} == {2}
    assert len({shown.highlighted for shown in negatives}) > 1
    assert negatives == shown_by(FuzzingDelphiScorer)
    assert {sum(shown.highlighted or ()) for shown in shown_by(FuzzingScorer)} == {2}


def test_12_fewer_tokens_than_marks_still_give_a_text() -> None:
    judge = PlainJudge(lambda shown: True)
    record = make_evidence(test=[make_example(TOKENS, [1, 1, 1, 1])], silent=[make_example([" x"], document=1)])
    for scorer in (FuzzingScorer(judge=judge), FuzzingDelphiScorer(judge=judge)):
        score = asyncio.run(scorer.score(record, explanation_of(record), "e"))
        assert [t.failure for t in score.trials] == [None, None]
    assert [s.highlighted for batch in judge.batches for s in batch if s.str_tokens == (" x",)] == [(True,)] * 2


def judged(reply: str | Response, n: int) -> list[Verdict | Failure]:
    judge = LlmJudge(client=ScriptedClient([reply]), top_logprobs=5)
    return asyncio.run(judge.judge("cats", [ShownExample(("a",))] * n, "detection"))[0]


@pytest.mark.parametrize("reply", ["[1,0,1]", "Sure: [1, 0, 1]", "[True, False, True]", "[1,\n0,1]"])
def test_13_lists_of_verdicts_are_read(reply: str) -> None:
    assert [v.matches for v in judged(reply, 3) if isinstance(v, Verdict)] == [True, False, True]


def test_13_a_short_list_is_a_failure_and_a_short_last_batch_is_none() -> None:
    assert [v.kind for v in judged("[1,0]", 3) if isinstance(v, Failure)] == ["unparsable"] * 3
    assert judged("[1,0]", 2) == [Verdict(True), Verdict(False)]


def test_13_failures_are_missing_and_counted() -> None:
    def replies(reply: str) -> DetectionScorer:
        return DetectionScorer(judge=LlmJudge(client=ScriptedClient(lambda request: reply)))

    def fires(tokens: Sequence[str], i: int) -> bool:
        return tokens[i] == " cat"

    record = planted_record(fires, n=6)
    score = asyncio.run(replies("hm").score(record, explanation_of(record), "e"))
    found = balanced_accuracy(score)
    assert (found.value, found.n, found.n_failed) == (None, 0, 12)


def test_14_probabilities_from_log_probabilities() -> None:
    listed = [("[", {}), ("1", {"1": -0.1, "0": -2.4}), (",", {}), ("0", {"0": -0.2, "1": -1.8}), ("]", {})]
    tokens = tuple(TokenLogprob(text, -0.1, alternatives) for text, alternatives in listed)
    verdicts = judged(Response("[1,0]", Usage(), "stop", "m", tokens), 2)
    found = [v.probability for v in verdicts if isinstance(v, Verdict)]
    assert found == pytest.approx([0.9089, 0.1680], abs=5e-5)


def test_15_an_explanation_is_what_follows_the_marker_and_its_lack_is_a_failure() -> None:
    record = make_evidence([make_example(TOKENS, [0, 1, 2, 0])])

    def explained(reply: str) -> Explanation | Failure:
        return asyncio.run(SimpleExplainer(client=ScriptedClient([reply])).explain(record))

    found, missing = explained("x [EXPLANATION]: foo \n"), explained("x foo")
    assert isinstance(found, Explanation)
    assert found.text == "foo"
    assert isinstance(missing, Failure)
    assert (missing.kind, missing.raw) == ("unparsable", "x foo")


def test_16_metrics_of_five_verdicts_and_one_that_is_missing() -> None:
    score = make_score([1, 1, 1, 0, 0, 1], [1, 1, 0, 0, 1, None])
    counts = confusion(score)
    assert (counts.tp, counts.fn, counts.tn, counts.fp) == (2, 1, 1, 1)
    found = [metric(score).value for metric in (precision, recall, f1, balanced_accuracy)]
    assert found == pytest.approx([2 / 3, 2 / 3, 2 / 3, 0.583], abs=5e-4)
    assert balanced_accuracy(score).n_failed / len(score.trials) == 1 / 6


def test_17_auroc_and_what_has_one_class_only() -> None:
    assert auroc(make_score([1, 1, 0, 0], [1, 1, 0, 0], [0.9, 0.4, 0.6, 0.1])).value == 0.75
    one_class = auroc(make_score([1, 1], [1, 1], [0.9, 0.4]))
    assert (one_class.value, one_class.reason) == (None, "no judged trial is negative")
