"""Scores that are no verdicts of a judge, in the planted world: embeddings, simulation, surprisal, generation."""

import json
import math
import re
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.metrics import auroc, balanced_accuracy, simulation_metrics, tnr, tpr
from sae_auto_interp.scorers import (
    EmbeddingScorer,
    ExampleEmbeddingScorer,
    GenerationScorer,
    SimulationScorer,
    SurprisalScorer,
)
from sae_auto_interp.types import (
    Array,
    Explanation,
    FeatureId,
    FeatureRecord,
    PromptLogprobs,
    PromptRequest,
    Request,
    Score,
    TextActivations,
    TokenLogprob,
    Usage,
)
from sae_auto_interp.validity import PLANTED, broad_explanation, exact_explanation, rule_of
from tests.validity.chance import ranking_interval
from tests.validity.pooled import pooled

Records = list[FeatureRecord]
WORD = re.compile(r"[A-Za-z]+|\.")
MARKED = re.compile(r"<<(.*?)>>")


def of_another(feature: FeatureId) -> Explanation:
    """The explanation of a feature that has no words in common with this one."""
    return exact_explanation(FeatureId(feature.module_path, (feature.index + 4) % 8))


def is_ranked_by_chance(score: Score) -> bool:
    found = auroc(score).value
    n_positive = sum(trial.target for trial in score.trials)
    low, high = ranking_interval(n_positive, len(score.trials) - n_positive)
    return found is not None and low <= found <= high


class PlantedEmbedder:
    """Knows the concepts: a vector says which exact rules hold of a text (of its marks), or which one it states."""

    name = "planted"

    async def embed(self, texts: Sequence[str]) -> Array:
        vectors = np.array([self.vector(text) for text in texts], np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def vector(self, text: str) -> list[float]:
        stated = [float(feature.exact.text == text) for feature in PLANTED]
        if any(stated):
            return [*stated, 0.0]
        words = WORD.findall(text.replace("<<", "").replace(">>", ""))
        marked = WORD.findall(" ".join(MARKED.findall(text)))
        held = [
            float(any(word in marked or not marked for word, place in zip(words, f.exact.places(words), strict=True)
                      if place))
            for f in PLANTED
        ]  # fmt: skip
        return [*held, float(not any(held))]

    async def close(self) -> None: ...


class HashingEmbedder(PlantedEmbedder):
    """Knows nothing."""

    def vector(self, text: str) -> list[float]:
        return np.random.default_rng(zlib.crc32(text.encode())).normal(size=8).tolist()


def test_embeddings_that_know_the_concepts_rank_perfectly(records: Records) -> None:
    assert auroc(pooled(EmbeddingScorer(embedder=PlantedEmbedder()), records)).value == 1.0
    found = pooled(ExampleEmbeddingScorer(embedder=PlantedEmbedder()), records[:8])
    assert auroc(found).value == 1.0


def test_embeddings_that_know_nothing_rank_by_chance(records: Records) -> None:
    assert is_ranked_by_chance(pooled(EmbeddingScorer(embedder=HashingEmbedder()), records))
    assert is_ranked_by_chance(pooled(ExampleEmbeddingScorer(embedder=HashingEmbedder()), records))


def simulator(level: Callable[[str, Sequence[str], int], float]) -> SimulationScorer:
    """`level` gets the description, the tokens and a place."""

    def script(request: Request) -> str:
        described, shown = request.messages[-1].content.split("\n\n", 1)
        tokens = json.loads(shown.partition(": ")[2])
        text = described.removeprefix("Description: ")
        listed = [{"token": token, "level": level(text, tokens, i)} for i, token in enumerate(tokens)]
        return json.dumps({"tokens": listed})

    return SimulationScorer(client=ScriptedClient(script))


def by_rule(description: str, tokens: Sequence[str], i: int) -> float:
    rule = rule_of(description)
    return 6.0 if rule is not None and rule.places(tokens)[i] else 0.0


def correlation(score: Score) -> float | None:
    return simulation_metrics(score, np.random.default_rng(0)).ev_correlation.value


def test_a_simulator_that_knows_the_strengths_correlates_perfectly_and_one_that_knows_the_places_nearly(
    records: Records,
) -> None:
    record = records[0]
    examples = (*record.test, *record.non_activating.test)
    strengths = {e.str_tokens: e.activations.tolist() for e in examples}
    knowing = simulator(lambda _, tokens, i: strengths[tuple(tokens)][i])
    assert correlation(pooled(knowing, [record])) == pytest.approx(1.0, abs=1e-6)
    places = correlation(pooled(simulator(by_rule), records))
    assert places is not None
    assert 0.85 < places < 1


def test_a_simulator_that_knows_nothing_has_no_correlation(records: Records) -> None:
    assert correlation(pooled(simulator(lambda *_: 0.0), records)) is None
    shuffled = correlation(pooled(simulator(by_rule), records[:8], of_another))
    assert shuffled is not None
    assert abs(shuffled) < 2.58 / math.sqrt(8 * 48 * 16)  # 99 % interval of a correlation of independent values
    crossed = simulator(lambda text, tokens, i: zlib.crc32(f"{text}{tokens}{i}".encode()) % 11)
    by_hash = correlation(pooled(crossed, records))
    assert by_hash is not None
    assert abs(by_hash) < 2.58 / math.sqrt(12 * 48 * 16)


class PlantedReader:
    """A base model to which the words that a description is about are less surprising after it."""

    model = "planted-base"

    def __init__(self, gain: Callable[[str, Sequence[str]], Sequence[float]]) -> None:
        self.gain = gain

    async def read(self, request: PromptRequest) -> PromptLogprobs:
        head, _, text = request.text.rpartition("Text:\n")
        description = head.rpartition("Description: ")[2].strip()
        before = request.text[: len(request.text) - len(text)]
        pieces = re.findall(r"\s*(?:[A-Za-z]+|\.)", text)
        gains = self.gain(description, [piece.strip() for piece in pieces])
        told = [TokenLogprob(piece, -3.0 + gain) for piece, gain in zip(pieces, gains, strict=True)]
        return PromptLogprobs((TokenLogprob(before, math.nan), *told), Usage(len(pieces), 0, 1), self.model)

    async def close(self) -> None: ...


def gain_by_rule(description: str, words: Sequence[str]) -> Sequence[float]:
    rule = rule_of(description)
    return [2.0 if rule is not None and place else 0.0 for place in (rule.places(words) if rule else [0] * len(words))]


def test_surprisal_of_a_reader_that_understands_ranks_perfectly(records: Records) -> None:
    found = pooled(SurprisalScorer(reader=PlantedReader(gain_by_rule)), records)
    assert (auroc(found).value, balanced_accuracy(found).value) == (1.0, 1.0)


def test_surprisal_of_a_reader_that_does_not_is_at_chance(records: Records) -> None:
    deaf = pooled(SurprisalScorer(reader=PlantedReader(lambda _, words: [0.0] * len(words))), records)
    assert (auroc(deaf).value, balanced_accuracy(deaf).value) == (0.5, 0.5)
    noisy = PlantedReader(lambda text, words: [zlib.crc32(f"{text}{words}".encode()) % 1000 / 1000] + [0] * 15)
    assert is_ranked_by_chance(pooled(SurprisalScorer(reader=noisy), records))


class PlantedSubject:
    """Runs a text through the planted features."""

    async def activations(self, texts: Sequence[str], feature: FeatureId) -> list[TextActivations]:
        return [self.of(text, feature) for text in texts]

    def of(self, text: str, feature: FeatureId) -> TextActivations:
        words = WORD.findall(text)
        places = PLANTED[feature.index].exact.places(words)
        return TextActivations(tuple(words), np.array(places, np.float32) * 5)


def writer(records: Records, *, is_deaf: bool = False) -> ScriptedClient:
    """Writes windows of the corpus that it was told to: such that the description applies, or that it does not."""
    windows = [e.text for r in records for e in (*r.train, *r.non_activating.explain)]

    def script(request: Request) -> str:
        system, user = (message.content for message in request.messages)
        rule = rule_of(user.removeprefix("Description: "))
        assert rule is not None
        wants = "near misses" not in system
        order = np.random.default_rng(zlib.crc32(user.encode())).permutation(len(windows))
        fitting = [windows[i] for i in order if is_deaf or any(rule.places(WORD.findall(windows[i]))) == wants]
        return json.dumps({"texts": list(dict.fromkeys(fitting))[:10]})

    return ScriptedClient(script)


def test_generation_by_a_writer_that_understands_is_perfect(records: Records) -> None:
    scorer = GenerationScorer(client=writer(records), reader=PlantedSubject())
    assert balanced_accuracy(pooled(scorer, records)).value == 1.0
    broad = pooled(scorer, records[:8], broad_explanation)
    found, silent = tpr(broad).value, tnr(broad).value
    assert found is not None
    assert 0.2 < found < 0.8  # half of what is written for an over-broad rule is the neighbour's
    assert silent == 1.0


def test_generation_by_a_writer_that_does_not_is_at_chance(records: Records) -> None:
    """The same texts for every request: found as often where the feature should fire as where it should not."""
    found = pooled(GenerationScorer(client=writer(records, is_deaf=True), reader=PlantedSubject()), records)
    assert balanced_accuracy(found).value == 0.5
