"""Surprisal: the exact difference of log-probabilities, over the window's own tokens, and what it does not see."""

import asyncio
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.errors import ServerError
from sae_auto_interp.metrics import auroc, balanced_accuracy
from sae_auto_interp.scorers import SurprisalScorer
from sae_auto_interp.scorers.surprisal import BASELINE
from sae_auto_interp.types import FeatureRecord, PromptLogprobs, PromptRequest, Score, TokenLogprob, Usage
from tests.support.evidence import VOCABULARY, explanation_of, make_evidence, make_example, planted_record
from tests.support.prompt_readers import WORDS, EmbeddedReader, PlacedReader, WordReader

GOLDEN = Path(__file__).parent / "golden" / "surprisal.txt"
WORDS_APART = [token for token in VOCABULARY if token.startswith(" ")]
RECORD = planted_record(lambda tokens, i: tokens[i] == " cat", n=20, vocabulary=WORDS_APART)
HEAD = "Description: "


def described(before: str) -> str:
    """The description under which a text is read."""
    return before.rpartition(HEAD)[2].partition("\n")[0]


def unigram(before: str, word: str) -> float:
    """Told about cats, "cat" is likelier and everything else a bit less likely. Told about dogs, dogs are."""
    about = described(before)
    if about in ("cats", "dogs"):
        return math.log(0.2) if word == about[:3] else math.log(0.04)
    return math.log(0.05)


def score_of(reader: Any, text: str = "cats", record: FeatureRecord = RECORD, **settings: Any) -> Score:
    scorer = SurprisalScorer(reader=reader, **settings)
    return asyncio.run(scorer.score(record, explanation_of(record, text), "e1"))


def test_the_score_is_the_exact_difference_of_log_probabilities() -> None:
    score = score_of(WordReader(unigram))
    for trial, example in zip(score.trials, (*RECORD.test, *RECORD.non_activating.test), strict=True):
        words = WORDS.findall(example.text)
        n_cats = words.count("cat")
        expected = n_cats * math.log(0.2 / 0.05) + (len(words) - n_cats) * math.log(0.04 / 0.05)
        assert trial.confidence == pytest.approx(expected)
        assert trial.confidence is not None
        assert trial.prediction == (trial.confidence > 0)
        assert trial.target == (n_cats > 0)


def test_by_hand() -> None:
    """ " a", " cat" are four words of this reader, a space each in front: three of them others."""
    record = make_evidence(test=[make_example([" a", " cat"], [0, 5], document=3, quantile=2)])
    (trial,) = score_of(WordReader(unigram), record=record).trials
    assert trial.confidence == pytest.approx(math.log(0.2 / 0.05) + 3 * math.log(0.04 / 0.05))
    assert (trial.document, trial.quantile, trial.source, trial.prediction) == (3, 2, "activating", True)
    (mean,) = score_of(WordReader(unigram), record=record, per_token=True).trials
    assert trial.confidence is not None
    assert mean.confidence == pytest.approx(trial.confidence / 4)


def test_a_right_explanation_separates_and_one_of_another_feature_does_not() -> None:
    right, other = auroc(score_of(WordReader(unigram))), auroc(score_of(WordReader(unigram), "dogs"))
    assert right.value == 1.0
    assert other.value is not None
    assert abs(other.value - 0.5) < 0.2


def test_an_explanation_that_says_no_more_than_the_baseline_is_exactly_at_chance() -> None:
    for reader in (WordReader(unigram), EmbeddedReader()):
        score = score_of(reader, BASELINE, planted_record(lambda tokens, i: tokens[i] == " cat", n=2))
        assert {trial.confidence for trial in score.trials} == {0.0}
        assert auroc(score).value == balanced_accuracy(score).value == 0.5


def test_the_embedded_model_gives_what_a_plain_forward_pass_gives() -> None:
    import torch

    from tests.pipeline.embedded import wrapped_model

    wrapped, text = wrapped_model(), "    return self.value\n"
    scorer = SurprisalScorer(reader=_Short())
    record = make_evidence(test=[make_example([text], [1.0])])
    (trial,) = asyncio.run(scorer.score(record, explanation_of(record, "code"), "e1")).trials

    def logprob(description: str) -> float:
        request, begin = scorer.request(description, text)
        whole = request.text[-_Short.n_characters :]
        begin -= len(request.text) - len(whole)
        encoded = wrapped.tokenizer(whole, return_offsets_mapping=True, add_special_tokens=False)
        ids = torch.tensor([encoded["input_ids"]])
        losses = torch.nn.functional.cross_entropy(
            wrapped._module(ids).logits[0, :-1].double(), ids[0, 1:], reduction="none"
        )
        inside = [end > begin for _, end in encoded["offset_mapping"]][1:]
        return -float(losses[torch.tensor(inside)].sum())

    with torch.inference_mode():
        assert trial.confidence == pytest.approx(logprob("code") - logprob(BASELINE), rel=1e-3)


class _Short(EmbeddedReader):
    """Reads the end of a text only, which fits into the embedded model's context."""

    n_characters = 200

    async def read(self, request: PromptRequest) -> PromptLogprobs:
        found = await super().read(PromptRequest(request.text[-self.n_characters :]))
        left_out = TokenLogprob(request.text[: -self.n_characters], math.nan)
        return PromptLogprobs((left_out, *found.tokens), found.usage, found.model)


def test_concurrency_changes_nothing() -> None:
    plain, slow = score_of(WordReader(unigram)), score_of(WordReader(unigram, latency_seconds=0.001))
    assert plain == slow
    assert plain.usage.n_requests == 2 * 40


# ------------------------------------------------------------------ failures


def only(reader: Any) -> str | None:
    (trial,) = score_of(reader, record=make_evidence(test=[make_example([" a", " cat"], [0, 5])])).trials
    assert trial.prediction is None
    assert trial.confidence is None
    return trial.failure.kind if trial.failure else None


@pytest.mark.parametrize("about", ["cats", BASELINE])
def test_what_the_reader_cannot_rate_is_a_failure(about: str) -> None:
    def fails(text: str) -> Any:
        return ServerError("503") if described(text) == about else {}

    def impossible(before: str, word: str) -> float:
        return -math.inf if described(before) == about and word == "cat" else -1.0

    def unknown(before: str, word: str) -> float:
        return math.nan if described(before) == about and word == "cat" else -1.0

    assert only(PlacedReader(fails)) == "server_error"
    assert only(WordReader(impossible)) == "no_probability"
    assert only(WordReader(unknown)) == "no_probability"


def test_a_window_that_is_split_otherwise_is_a_failure() -> None:
    class Fickle:
        model = "fickle"

        async def read(self, request: PromptRequest) -> PromptLogprobs:
            cut = -3 if described(request.text) == "cats" else -2
            tokens = (TokenLogprob(request.text[:cut], -1.0), TokenLogprob(request.text[cut:], -1.0))
            return PromptLogprobs(tokens, Usage(), "fickle")

        async def close(self) -> None: ...

    assert only(Fickle()) == "not_aligned"


def test_a_token_across_the_beginning_of_the_window_counts() -> None:
    class Straddling:
        model = "straddling"

        async def read(self, request: PromptRequest) -> PromptLogprobs:
            begin = request.text.rindex("\n")
            gain = 2.0 if described(request.text) == "cats" else 1.0
            tokens = (TokenLogprob(request.text[:begin], math.nan), TokenLogprob(request.text[begin:], gain))
            return PromptLogprobs(tokens, Usage(), "straddling")

        async def close(self) -> None: ...

    record = make_evidence(test=[make_example([" a", " cat"], [0, 5])])
    assert score_of(Straddling(), record=record).trials[0].confidence == 1.0


def test_examples_without_strings_are_failures_that_nobody_is_asked_about() -> None:
    reader = PlacedReader(lambda text: ServerError("asked"))
    bare = replace(make_example([" a"], [1]), str_tokens=())
    (trial,) = score_of(reader, record=make_evidence(test=[bare])).trials
    assert trial.failure is not None
    assert (trial.failure.kind, reader.requests) == ("no_text", [])


def test_the_text_is_word_for_word_this() -> None:
    request, begin = SurprisalScorer(reader=WordReader(unigram)).request("cats", " a cat")
    assert request.text[begin:] == " a cat"
    assert request.text + "\n" == (GOLDEN.read_text(encoding="utf-8") if GOLDEN.is_file() else ""), request.text
