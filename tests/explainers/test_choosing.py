"""Best-of-n and revision: chosen by the development pools alone, and never flattered by the choice."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.errors import TimeoutExceededError
from sae_auto_interp.explainers import BestOfNExplainer, RevisionExplainer
from sae_auto_interp.metrics import development_accuracy
from sae_auto_interp.types import Explanation, Failure, FeatureRecord, Request, ShownExample, Usage, Verdict
from tests.support.evidence import assert_golden, make_example, planted_record

GOLDEN = Path(__file__).parent / "golden"
CAT_OR_DOG = (" cat", " dog")


def record_with_dev(seed: int = 0, n: int = 30) -> FeatureRecord:
    """Fires on cats and dogs; the development pools come from documents of their own."""
    record = planted_record(lambda tokens, i: tokens[i] in CAT_OR_DOG, n=n, seed=seed)
    other = planted_record(lambda tokens, i: tokens[i] in CAT_OR_DOG, n=n, seed=seed + 100)
    dev = tuple(replace(e, document=e.document + 500_000) for e in other.test)
    silent = tuple(replace(e, document=e.document + 500_000) for e in other.non_activating.test)
    return replace(record, dev=dev, non_activating=replace(record.non_activating, dev=silent))


@dataclass
class WordJudge:
    """An explanation is a list of words; it fits a text that holds one of them."""

    name: str = "words"
    seen: list[ShownExample] = field(default_factory=list)
    fails: Failure | None = None

    async def judge(
        self, explanation: str, examples: Sequence[ShownExample], task: str
    ) -> tuple[list[Verdict | Failure], Usage]:
        self.seen += examples
        if self.fails is not None:
            return [self.fails] * len(examples), Usage(n_requests=1)
        words = set(explanation.split())
        return [Verdict(any(t.strip() in words for t in e.str_tokens)) for e in examples], Usage(n_requests=1)


def answers(*texts: str) -> ScriptedClient:
    return ScriptedClient([f"[EXPLANATION]: {text}" for text in texts])


def best(record: FeatureRecord, client: ScriptedClient, judge: WordJudge, n: int) -> Explanation | Failure:
    return asyncio.run(BestOfNExplainer(client=client, judge=judge, n=n).explain(record))


def test_the_candidate_that_fits_the_development_pools_is_chosen() -> None:
    client, judge = answers("river", "cat dog", "cat", "cat dog"), WordJudge()
    found = best(record_with_dev(), client, judge, 4)
    assert isinstance(found, Explanation)
    assert (found.text, found.explainer) == ("cat dog", "best_of_n")
    assert len({request.sampling.seed for request in client.requests}) == 4, "each candidate is a request of its own"
    n_judged = 3 * 60 // 5  # equal texts are judged once
    assert found.usage.n_requests == 4 + n_judged


def test_no_test_example_is_judged_or_shown_while_choosing() -> None:
    record, judge = record_with_dev(), WordJudge()
    client = answers("cat", "dog")
    best(record, client, judge, 2)
    test = {e.str_tokens for e in (*record.test, *record.non_activating.test)}
    assert not test & {shown.str_tokens for shown in judge.seen}
    assert all("".join(tokens) not in request.canonical_json() for tokens in test for request in client.requests)


def test_choosing_among_meaningless_candidates_gains_nothing_on_the_test_set() -> None:
    """With labels that fit nothing, the best of 20 looks good on the development pools and is at chance on the test."""
    rng = np.random.default_rng(0)
    words = ["the", "of", "river", "Paris", "import", "foo", "7", "(", "water", "paper", "is", "to"]
    gained: list[float] = []
    for seed in range(12):
        record = record_with_dev(seed=seed, n=10)
        texts = [" ".join(rng.choice(words, 3, replace=False)) for _ in range(20)]
        found = best(record, answers(*texts), WordJudge(), 20)
        assert isinstance(found, Explanation)
        chosen = set(found.text.split())
        hits = [any(t.strip() in chosen for t in e.str_tokens) for e in record.test]
        passes = [not any(t.strip() in chosen for t in e.str_tokens) for e in record.non_activating.test]
        gained.append(float(np.mean(hits) + np.mean(passes)) / 2 - 0.5)
    standard_error = 0.5 * np.sqrt(2 * 0.25 / 10) / np.sqrt(len(gained))
    assert abs(np.mean(gained)) < 2.576 * standard_error


def test_trouble_that_may_heal_is_a_failure_and_not_another_choice() -> None:
    record = record_with_dev()
    client = ScriptedClient(["[EXPLANATION]: cat dog", TimeoutExceededError("60 s")])
    assert best(record, client, WordJudge(), 2) == Failure("explain", "timeout", "60 s")
    away = Failure("score", "unreachable", "refused")
    assert best(record, answers("cat"), WordJudge(fails=away), 1) == away


def test_replies_that_cannot_be_read_are_passed_over() -> None:
    record = record_with_dev()
    found = best(record, ScriptedClient(["no idea", "[EXPLANATION]: cat dog"]), WordJudge(), 2)
    assert isinstance(found, Explanation)
    none = best(record, ScriptedClient(["no idea", "Maybe cats."]), WordJudge(), 2)
    assert isinstance(none, Failure)
    assert none.kind == "no_finding"
    unjudged = best(record, answers("cat"), WordJudge(fails=Failure("score", "unparsable", "?")), 1)
    assert isinstance(unjudged, Failure)
    assert unjudged.kind == "not_judged"


@pytest.mark.parametrize("explainer", [BestOfNExplainer, RevisionExplainer])
def test_without_development_pools_nothing_is_asked(explainer: type) -> None:
    client = answers("cat")
    found = asyncio.run(explainer(client=client, judge=WordJudge()).explain(replace(record_with_dev(), dev=())))
    assert isinstance(found, Failure)
    assert found.kind == "no_development_examples"
    assert "features.n_dev" in found.message
    assert client.requests == []


def revise(record: FeatureRecord, client: ScriptedClient, judge: WordJudge, **settings: Any) -> Explanation | Failure:
    return asyncio.run(RevisionExplainer(client=client, judge=judge, **settings).explain(record))


def test_a_revision_that_repairs_what_was_wrong_is_kept() -> None:
    """The explainer learns of dogs only from what the first explanation missed."""

    def script(request: Request) -> str:
        missed = request.messages[-1].content.partition("FIRES, BUT NOT EXPECTED TO")[2]
        return "[EXPLANATION]: cat dog" if "dog" in missed else "[EXPLANATION]: cat"

    client, judge = ScriptedClient(script), WordJudge()
    found = revise(record_with_dev(), client, judge)
    assert isinstance(found, Explanation)
    assert (found.text, found.explainer) == ("cat dog", "revision")
    assert len(client.requests) == 2, "nothing is wrong any more, so no further round is paid for"


def test_a_revision_that_does_worse_or_no_better_is_rejected() -> None:
    for second in ("river", "cat dog"):
        client = answers("cat dog water", second, "Paris")
        found = revise(record_with_dev(), client, WordJudge())
        assert isinstance(found, Explanation)
        kept = "cat dog" if second == "cat dog" else "cat dog water"
        assert found.text == kept


def test_the_first_explanation_stays_where_a_revision_cannot_be_read() -> None:
    found = revise(record_with_dev(), ScriptedClient(["[EXPLANATION]: cat", "no idea"]), WordJudge())
    assert isinstance(found, Explanation)
    assert found.text == "cat"
    again = ScriptedClient(["[EXPLANATION]: cat", TimeoutExceededError("60 s")])
    assert revise(record_with_dev(), again, WordJudge()) == Failure("explain", "timeout", "60 s")


def test_no_test_example_is_shown_for_a_revision() -> None:
    record, client = record_with_dev(), answers("cat", "dog", "river")
    revise(record, client, WordJudge())
    test = {e.text for e in (*record.test, *record.non_activating.test)}
    assert not any(text in request.messages[-1].content for text in test for request in client.requests)


def test_the_request_for_a_revision_is_word_for_word_this() -> None:
    record = planted_record(lambda tokens, i: tokens[i] == " cat", n=4, window=5)
    missed = [make_example([" my", " cat"], [0, 2])]
    request = RevisionExplainer(client=answers(), judge=WordJudge(), n_examples=8).request(
        record, "felines", missed, [make_example([" a", " cart"])]
    )
    assert_golden(request, GOLDEN / "revision.txt")


def test_what_was_tried_is_kept_with_its_development_verdicts() -> None:
    record = record_with_dev()
    found = best(record, answers("river", "cat dog", "cat", "cat dog"), WordJudge(), 4)
    assert isinstance(found, Explanation)
    assert [(c.text, c.is_chosen) for c in found.candidates] == [("river", False), ("cat dog", True), ("cat", False)]
    for candidate in found.candidates:
        words = set(candidate.text.split())
        hits = [any(t.strip() in words for t in e.str_tokens) for e in record.dev]
        passes = [not any(t.strip() in words for t in e.str_tokens) for e in record.non_activating.dev]
        assert (candidate.n_hits, candidate.n_activating) == (sum(hits), len(hits))
        assert (candidate.n_rejected, candidate.n_silent) == (sum(passes), len(passes))
        assert candidate.n_failed == 0
        expected = (sum(hits) / len(hits) + sum(passes) / len(passes)) / 2
        assert development_accuracy(candidate).value == pytest.approx(expected)


def test_revisions_that_were_rejected_are_kept_as_tried() -> None:
    texts = ["cat", "cat dog", "river"]
    judge = WordJudge()
    found = revise(record_with_dev(), answers(*texts), judge)
    assert isinstance(found, Explanation)
    assert found.candidates[0].text == "cat"
    assert [c.text for c in found.candidates if c.is_chosen] == [found.text]
    rejected = revise(record_with_dev(), answers("cat dog", "river"), WordJudge())
    assert isinstance(rejected, Explanation)
    assert rejected.text == "cat dog"
    assert rejected.candidates[0].is_chosen
