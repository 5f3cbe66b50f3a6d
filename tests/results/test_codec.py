"""Every value comes back from bytes as it went in, whatever is in its strings."""

import json
import zlib
from dataclasses import replace

import numpy as np
import pytest

from sae_auto_interp.results import codec
from sae_auto_interp.types import (
    NO_DOCUMENT,
    Candidate,
    ChoiceTrial,
    Example,
    Explanation,
    Failure,
    FeatureId,
    FeatureRecord,
    FeatureStats,
    NonActivating,
    Score,
    SimulationTrial,
    TokenLogits,
    Trial,
    Usage,
)
from tests.support.run_fixture import make_record, make_score

WEIRD = ["", " ", "\n", "\x00", "\x1b[0m", "é", "é", "の", "😀", "\ud83d", "\ude00", "\ud83d\ude00", "\ufeff", "\u202e"]
FEATURE = FeatureId("transformer.h.10/mlp", 131_071)


def assert_same_example(first: Example, second: Example) -> None:
    np.testing.assert_array_equal(first.tokens, second.tokens)
    np.testing.assert_array_equal(first.activations, second.activations)
    assert (first.tokens.dtype, first.activations.dtype) == (second.tokens.dtype, second.activations.dtype)
    empty = np.zeros(0, dtype=np.float32)
    assert replace(first, tokens=empty.astype(np.int32), activations=empty).__repr__() == (
        replace(second, tokens=empty.astype(np.int32), activations=empty).__repr__()
    )


def assert_same_record(first: FeatureRecord, second: FeatureRecord) -> None:
    assert (first.feature, first.stats, first.logits) == (second.feature, second.stats, second.logits)
    for one, two in [
        (first.train, second.train),
        (first.test, second.test),
        (first.non_activating.explain, second.non_activating.explain),
        (first.non_activating.test, second.non_activating.test),
        (first.dev, second.dev),
        (first.non_activating.dev, second.non_activating.dev),
    ]:
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_same_example(codec.rounded(a), b)


@pytest.mark.parametrize("hostile", [False, True])
def test_record_round_trip(hostile: bool) -> None:
    record = make_record(3, hostile=hostile)
    assert_same_record(record, codec.decode_record(codec.encode_record(record)))


def test_development_pools_and_logits_round_trip() -> None:
    record = make_record(3)
    logits = TokenLogits(((" the", 1.25), ("\ud83d", 0.5)), (("no", -2.0),))
    pools = replace(record.non_activating, dev=record.non_activating.test)
    record = replace(record, dev=record.test, non_activating=pools, logits=logits)
    assert_same_record(record, codec.decode_record(codec.encode_record(record)))


def test_records_of_before_the_development_pools_open() -> None:
    record = make_record(3)
    fields = json.loads(zlib.decompress(codec.encode_record(record)).decode("utf-8", "surrogatepass"))
    for name in ("dev", "dev_negatives", "logits"):
        del fields[name]
    assert_same_record(record, codec.decode_record(json.dumps(fields).encode("utf-8", "surrogatepass")))


def test_example_with_every_field_and_weird_strings() -> None:
    example = Example(
        tokens=np.arange(len(WEIRD), dtype=np.int32),
        str_tokens=tuple(WEIRD),
        activations=np.array([0.0, 1.2345678e-8, 65504.0, 3.0, *([0.0] * (len(WEIRD) - 4))], dtype=np.float32),
        row=2**31,
        start=0,
        document=-1,
        source="neighbour",
        quantile=0,
        neighbour=FEATURE,
        distance=0.12345678901234567,
    )
    stats = FeatureStats(0, 0, 0, 0, 0.1 + 0.2, 1e-300)
    empty = replace(example, tokens=example.tokens[:0], str_tokens=(), activations=example.activations[:0])
    record = FeatureRecord(FEATURE, stats, (example, empty), (), NonActivating((example,), ()))
    assert_same_record(record, codec.decode_record(codec.encode_record(record)))


def test_rounding_keeps_five_digits_and_happens_once() -> None:
    rng = np.random.default_rng(0)
    values = (10.0 ** rng.uniform(-6, 4, size=500)).astype(np.float32)
    example = Example(np.zeros(500, np.int32), ("a",) * 500, values, 0, 0, 0, "activating")
    once = codec.rounded(example)
    np.testing.assert_allclose(once.activations, values, rtol=0.6e-4)
    np.testing.assert_array_equal(codec.rounded(once).activations, once.activations)


@pytest.mark.parametrize("text", WEIRD)
def test_explanation_and_failure_round_trip(text: str) -> None:
    explanation = Explanation(FEATURE, text, "lexical", f"id {text}", Usage(1, 2, 3))
    assert codec.decode_explanation(codec.encode_explanation(explanation)) == explanation
    assert b"candidates" not in codec.encode_explanation(explanation), "the bytes that it had before there were any"
    chosen = replace(
        explanation, candidates=(Candidate(text, True, 9, 10, 8, 11, 1), Candidate("b", False, 1, 2, 3, 4, 0))
    )
    assert codec.decode_explanation(codec.encode_explanation(chosen)) == chosen
    for raw in (None, text):
        failure = Failure("explain", "unparsable", text, raw)
        assert codec.decode_failure(codec.encode_failure(failure)) == failure


def test_score_round_trip() -> None:
    score = make_score(make_record(1), "fuzzing", "lexical/x:1", 0.8)
    assert codec.decode_score(codec.encode_score(score)) == score
    odd = Trial(True, None, None, "token", None, -1, Failure("score", "x", "\ud800", None))
    bare = Score(FEATURE, "s", "e", "simulation", (odd, Trial(False, False, 1.0, "similar", 3, 0)))
    assert codec.decode_score(codec.encode_score(bare)) == bare
    simulation = Score(
        FEATURE,
        "s",
        "e",
        "simulation",
        (),
        simulations=(
            SimulationTrial((0.0, 1 / 3, 1e-300), (0.1 + 0.2, 0.0, -7.0), "activating", 3, 0),
            SimulationTrial((1.0,), None, "random", None, -1, Failure("score", "x", "\ud800", None)),
            SimulationTrial((), (), "random", None, 5),
        ),
    )
    assert codec.decode_score(codec.encode_score(simulation)) == simulation
    nothing = Score(FEATURE, "s", "e", "classification", ())
    assert codec.decode_score(codec.encode_score(nothing)) == nothing


def test_a_store_from_before_simulations_reads_and_resumes() -> None:
    """The same bytes as then, so that adding a score again to an old store is still no conflict."""
    trial = Trial(True, None, None, "token", None, -1, Failure("score", "x", "y", None))
    score = Score(FEATURE, "s", "e", "classification", (trial,), Usage(1, 2, 3))
    written_then = (
        b'{"explanation_id":"e","feature":"transformer.h.10/mlp:131071","kind":"classification","scorer":"s",'
        b'"trials":[[true,null,null,"token",null,-1,{"kind":"x","message":"y","raw":null,"stage":"score"}]],'
        b'"usage":{"completion_tokens":2,"n_requests":3,"prompt_tokens":1}}'
    )
    assert zlib.decompress(codec.encode_score(score)) == written_then
    assert codec.decode_score(zlib.compress(written_then)) == score


def test_sameness_does_not_depend_on_the_compression() -> None:
    content = codec.encode_score(make_score(make_record(1), "fuzzing", "lexical/x:1", 0.8))
    again = zlib.compress(zlib.decompress(content), level=6)
    assert content != again
    assert codec.is_same(content, again)
    assert not codec.is_same(content, codec.encode_score(make_score(make_record(1), "fuzzing", "lexical/x:1", 0.7)))


def test_choices_round_trip_and_are_written_only_where_there_are_some() -> None:
    broken = Failure("score", "unparsable", "no number", "hm")
    choices = (
        ChoiceTrial(3, 1, 5, "random", 0, 17),
        ChoiceTrial(0, None, 2, "neighbour", None, NO_DOCUMENT, broken),
    )
    score = Score(FeatureId("h.2", 3), "intruder", "e/1", "choice", (), choices=choices)
    assert codec.decode_score(codec.encode_score(score)) == score
    assert score.failures == (broken,)
    assert b"choices" not in zlib.decompress(codec.encode_score(replace(score, choices=())))
