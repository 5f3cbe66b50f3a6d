"""A small finished run, made up but lifelike: 12 features of 2 modules, two explainers, their shuffled controls.

`write_run(run_dir)` writes run_dir/results.sqlite. Everything follows from `seed`. `hostile=True` puts markup,
control characters and half characters into tokens, explanations and failure messages.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sae_auto_interp.results import RESULTS_FILE, ResultStore
from sae_auto_interp.types import (
    Example,
    ExampleSource,
    Explanation,
    Failure,
    FeatureId,
    FeatureRecord,
    FeatureStats,
    NonActivating,
    Score,
    Trial,
    Usage,
)

MODULES = ("transformer.h.1.mlp", "transformer.h.10.mlp")
N_QUANTILES = 10
HOSTILE_TOKENS = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "\x1b[31m", "\ud83d", "\u202e", "]]>")
HOSTILE_TEXT = '</td><script>alert("explanation")</script> \'"><img src=x onerror=alert(2)> [bold red]{{ 7*7 }} \ud800'


@dataclass(frozen=True)
class Concept:
    """What a made-up feature fires on, and how well its explanation is judged."""

    text: str
    tokens: tuple[str, ...]
    quality: float


CONCEPTS = (
    Concept("Names of months, mostly in dates", (" January", " March", " July", " October"), 0.97),
    Concept("The word “return” and other keywords that end a block of code", (" return", " break", " raise"), 0.94),
    Concept("Capital cities of Europe", (" Paris", " Rome", " Madrid", " Vienna"), 0.92),
    Concept("Line breaks after a full stop", ("\n", "\n\n"), 0.9),
    Concept("Numbers with a unit of length or weight", (" km", " kg", " metres"), 0.86),
    Concept("Negations: not, never, no longer", (" not", " never", "n’t"), 0.83),
    Concept("Words of praise in reviews", (" superb", " delightful", " charming"), 0.8),
    Concept("Chemical elements and compounds", (" oxygen", " iron", " CO₂"), 0.76),
    Concept("Verbs of saying that introduce a quotation", (" said", " replied", " wrote"), 0.7),
    Concept("Tokens in legal or formal writing", (" hereby", " pursuant", " thereof"), 0.64),
    Concept("Japanese particles and short words", ("の", "は", "を"), 0.57),
    Concept("Punctuation of various kinds", (";", ":", " –"), 0.51),
)
WORDS = (
    "the of and a to in that it was for on with as by at from which had been their after when more some only other "
    "small great early long house river night people water light paper morning window garden"
)
FILLER = tuple(WORDS.split())
N_TRAIN, N_TEST, N_NEGATIVE = 14, 30, 30


def feature_of(number: int) -> FeatureId:
    return FeatureId(MODULES[number % 2], 100 + 37 * number)


def make_example(
    rng: np.random.Generator,
    active: tuple[str, ...],
    strength: float,
    source: ExampleSource = "activating",
    quantile: int | None = None,
    window: int = 24,
) -> Example:
    """A window of filler words with 1 to 3 of the `active` tokens in it, firing at about `strength`."""
    strings = [f" {rng.choice(FILLER)}" for _ in range(window)]
    activations = np.zeros(window, dtype=np.float32)
    if strength > 0:
        positions = rng.choice(window, size=int(rng.integers(1, 4)), replace=False)
        for rank, position in enumerate(positions):
            strings[position] = str(rng.choice(active))
            activations[position] = round(strength * (1.0 if rank == 0 else float(rng.uniform(0.2, 0.8))), 3)
    return Example(
        tokens=rng.integers(0, 50_000, size=window).astype(np.int32),
        str_tokens=tuple(strings),
        activations=activations,
        row=int(rng.integers(0, 5000)),
        start=int(rng.integers(0, 10)) * window,
        document=int(rng.integers(0, 10_000)),
        source=source,
        quantile=quantile,
    )


def make_record(number: int, seed: int = 0, hostile: bool = False) -> FeatureRecord:
    """Feature `number` of the run, with windows in all quantiles."""
    rng = np.random.default_rng([seed, number])
    tokens = CONCEPTS[number % len(CONCEPTS)].tokens + (HOSTILE_TOKENS if hostile else ())
    peak = float(rng.uniform(2.0, 14.0))

    def activating(n: int) -> tuple[Example, ...]:
        quantiles = [i * N_QUANTILES // n for i in range(n)]
        return tuple(make_example(rng, tokens, peak * 0.8**q, quantile=q) for q in quantiles)

    def silent(n: int) -> tuple[Example, ...]:
        return tuple(make_example(rng, tokens, 0.0, source="random") for _ in range(n))

    n_activations = int(rng.integers(300, 30_000))
    return FeatureRecord(
        feature=feature_of(number),
        stats=FeatureStats(
            n_tokens=2_000_000,
            n_activations=n_activations,
            n_windows=80_000,
            n_active_windows=n_activations // 2,
            max_activation=round(peak, 3),
            mean_activation=round(peak * 0.3, 3),
        ),
        train=activating(N_TRAIN),
        test=activating(N_TEST),
        non_activating=NonActivating(explain=silent(5), test=silent(N_NEGATIVE)),
    )


def make_score(record: FeatureRecord, scorer: str, explanation_id: str, quality: float, seed: int = 0) -> Score:
    """A judge that is right with probability `quality`, less so on weak windows, and fails on 1 trial in 30."""
    index = record.feature.index
    rng = np.random.default_rng([seed, index, *f"{scorer} {explanation_id}".encode()])
    broken = Failure("score", "unparsable", "the reply holds no list of verdicts", raw="I think the first one fits.")
    trials: list[Trial] = []
    for example in (*record.test, *record.non_activating.test):
        target = example.source == "activating"
        chance = quality - (0.02 * (example.quantile or 0) if quality > 0.6 else 0.0)
        is_right, has_failed = rng.random() < chance, rng.random() < 0.03
        trials.append(
            Trial(
                target=target,
                prediction=None if has_failed else target == is_right,
                confidence=None if has_failed else round(float(rng.beta(5, 2) if target == is_right else 0.3), 4),
                source=example.source,
                quantile=example.quantile,
                document=example.document,
                failure=broken if has_failed else None,
            )
        )
    return Score(record.feature, scorer, explanation_id, "classification", tuple(trials), Usage(9000, 240, 12))


def explanations_of(number: int, n_features: int, hostile: bool) -> Iterator[tuple[Explanation, str, float]]:
    """(explanation, judge, how well it is judged): two explainers, and each shuffled; the LLM one fails on one."""
    concept = CONCEPTS[number % len(CONCEPTS)]
    other = CONCEPTS[(number + 5) % len(CONCEPTS)]
    feature, usage = feature_of(number), Usage(2400, 30, 1)
    suffix = f" {HOSTILE_TEXT}" if hostile else ""
    lexical = "Fires on: " + ", ".join(repr(t) for t in concept.tokens) + suffix
    shuffled_lexical = "Fires on: " + ", ".join(repr(t) for t in other.tokens)
    yield Explanation(feature, lexical, "lexical", "top-tokens-1"), "lexical", 0.5 + 0.8 * (concept.quality - 0.5)
    yield Explanation(feature, shuffled_lexical, "shuffled:lexical", "top-tokens-1"), "lexical", 0.5
    if number != n_features - 3:
        yield Explanation(feature, concept.text + suffix, "simple", "simple-1", usage), "demo-model-8b", concept.quality
        yield Explanation(feature, other.text, "shuffled:simple", "simple-1"), "demo-model-8b", 0.5


def write_run(run_dir: Path, n_features: int = 12, seed: int = 0, hostile: bool = False) -> Path:
    """Write a whole run; returns the path of its results file."""
    path = run_dir / RESULTS_FILE
    with ResultStore.open(path) as store:
        write_info(store, seed)
        for number in range(n_features):
            record = make_record(number, seed, hostile)
            with store.unit("records", str(record.feature)):
                store.add_record(record)
            write_results(store, record, number, n_features, hostile)
        write_failures(store, feature_of(n_features - 3), hostile)
    return path


def write_info(store: ResultStore, seed: int) -> None:
    facts = {
        "model": "openai-community/gpt2",
        "autoencoder": "demo/topk-sae-4096 (k = 32)",
        "data": "standard library documentation, 2,000,000 tokens",
        "seed": str(seed),
        "version": "0.1.0",
        "explainer_model": "demo-model-8b",
        "scorer_model": "demo-model-8b",
        "fingerprint": "sha256:5f0c2a8e9b7d4410",
    }
    for key, value in facts.items():
        store.set_info(key, value)


def write_results(store: ResultStore, record: FeatureRecord, number: int, n_features: int, hostile: bool) -> None:
    for explanation, judge, quality in explanations_of(number, n_features, hostile):
        explanation_id = f"{explanation.explainer}/{explanation.feature}"
        with store.unit("explain", explanation_id):
            store.add_explanation(explanation, explanation_id)
        for scorer in ("detection", "fuzzing"):
            with store.unit("score", f"{scorer}/{judge}/{explanation_id}"):
                store.add_score(make_score(record, scorer, explanation_id, quality), judge)


def write_failures(store: ResultStore, feature: FeatureId, hostile: bool) -> None:
    message = "the reply has no line that starts with [EXPLANATION]:" + (HOSTILE_TEXT if hostile else "")
    raw = "The neuron seems to respond to many different things, so" + (HOSTILE_TEXT if hostile else "")
    store.add_failure(Failure("explain", "unparsable", message, raw), f"simple/{feature}")
    store.add_failure(Failure("explain", "timeout", "no answer within 60 s"), f"simple/{MODULES[1]}:4095")
