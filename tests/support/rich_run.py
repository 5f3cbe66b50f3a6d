"""A finished run that has everything a report can show: two judges, choices among candidates, every kind of score.

`write_rich_run(run_dir)` writes run_dir/results.sqlite. Everything follows from `seed`. As in `run_fixture`, tokens,
explanations, candidates and messages are hostile where asked for.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from sae_auto_interp.results import RESULTS_FILE, ResultStore
from sae_auto_interp.types import (
    Candidate,
    ChoiceTrial,
    Explanation,
    Failure,
    FeatureProfile,
    FeatureRecord,
    Score,
    Shortage,
    SimulationTrial,
    TokenLogits,
    TriageLabel,
    Trial,
    Usage,
)
from tests.support.run_fixture import CONCEPTS, HOSTILE_TEXT, MODULES, make_record, make_score, write_info

JUDGE, OTHER_JUDGE, EMBEDDER = "llm:demo-model-8b", "llm:other-model-70b", "openai:small-embedder"
REFUSED = Failure("score", "refused", "the model declined to answer", "I cannot help with that.")
LABELS: tuple[tuple[TriageLabel, ...], ...] = ((), ("single_token",), ("dense", "positional"), ("previous_token",))


def write_rich_run(run_dir: Path, n_features: int = 8, seed: int = 0, hostile: bool = False) -> Path:
    """Write a whole run; returns the path of its results file."""
    path = run_dir / RESULTS_FILE
    with ResultStore.open(path) as store:
        write_info(store, seed)
        for number in range(n_features):
            record = rich_record(number, seed, hostile)
            store.add_record(record)
            write_feature(store, record, number, hostile)
        for index, kind in ((4001, "rare"), (4002, "rare"), (4003, "dead"), (4004, "too_few_examples")):
            store.add_failure(Failure("records", kind, f"{MODULES[0]}:{index} is {kind}"), f"{MODULES[0]}:{index}")
    return path


def rich_record(number: int, seed: int, hostile: bool) -> FeatureRecord:
    """A record with labels, logits and, of every third feature, too few examples."""
    record = make_record(number, seed, hostile)
    tokens = CONCEPTS[number % len(CONCEPTS)].tokens + ((HOSTILE_TEXT.replace("\ud800", ""),) if hostile else ())
    profile = FeatureProfile(
        labels=LABELS[number % len(LABELS)],
        peak_tokens=tuple((token, 40 - 7 * i) for i, token in enumerate(tokens)),
        n_peak_tokens=9 + number,
        token_entropy_nats=1.2,
        firing_fraction=0.93,
        n_previous_tokens=60,
        firing_fraction_after=0.02,
        positional_information=0.01 * number,
        positional_q=0.2,
    )
    logits = TokenLogits(tuple((t, 1.5 - 0.2 * i) for i, t in enumerate(tokens)), ((" zebra", -0.9), ("\n", -0.7)))
    shortages = (Shortage("non-activating for scoring", "neighbour", 25, 7 * (number % 2)),) if number % 3 == 0 else ()
    return replace(record, profile=profile, logits=logits, shortages=shortages)


def write_feature(store: ResultStore, record: FeatureRecord, number: int, hostile: bool) -> None:
    concept, other = CONCEPTS[number % len(CONCEPTS)], CONCEPTS[(number + 5) % len(CONCEPTS)]
    usage, suffix = Usage(2400, 30, 1), f" {HOSTILE_TEXT}" if hostile else ""
    simple = Explanation(record.feature, concept.text + suffix, "simple", "simple-1", usage)
    tried = (
        Candidate("Words of some kind" + suffix, False, 15, 25, 13, 25, 0),
        Candidate(concept.text + suffix, True, 24, 25, 22 - number, 25, 0),
        Candidate(other.text, False, 9, 25, 20, 24, 1),
    )
    chosen = replace(simple, explainer="best_of_n", candidates=tried)
    lexical = Explanation(record.feature, f"Fires on: {concept.tokens[0]!r}{suffix}", "lexical", "top-tokens-1")
    for explanation, judges in ((simple, (JUDGE, OTHER_JUDGE)), (chosen, (JUDGE,)), (lexical, ("lexical",))):
        control = replace(explanation, explainer=f"shuffled:{explanation.explainer}", text=other.text, candidates=())
        for each, quality in ((explanation, concept.quality), (control, 0.5)):
            named = f"{each.explainer}/{record.feature}"
            store.add_explanation(each, named)
            for judge in judges:
                write_verdicts(store, record, named, judge, quality)
            if explanation is simple:
                write_others(store, record, named, quality)


def write_verdicts(store: ResultStore, record: FeatureRecord, named: str, judge: str, quality: float) -> None:
    for scorer in ("detection", "fuzzing"):
        seed = {JUDGE: 0, OTHER_JUDGE: 1}.get(judge, 2)
        store.add_score(make_score(record, scorer, named, quality, seed), judge)


def write_others(store: ResultStore, record: FeatureRecord, named: str, quality: float) -> None:
    """A ranking, forced choices, simulations and a one-sided test, some trials of each failed."""
    rng = np.random.default_rng([record.feature.index, len(named)])
    ranked = make_score(record, "embedding", named, quality)
    trials = tuple(
        replace(t, prediction=None, confidence=None if t.failure else float(rng.normal(2 * quality * t.target)))
        for t in ranked.trials
    )
    store.add_score(replace(ranked, kind="ranking", trials=trials), EMBEDDER)
    choices = tuple(
        ChoiceTrial(2, None, 5, "random", i % 10, i, REFUSED)
        if i % 15 == 14
        else ChoiceTrial(2, 2 if rng.random() < quality - 0.2 else 0, 5, "random", i % 10, i)
        for i in range(30)
    )
    store.add_score(Score(record.feature, "intruder_explained", named, "choice", (), choices=choices), JUDGE)
    simulations = tuple(
        SimulationTrial(
            tuple(float(a) for a in e.activations),
            None if i % 10 == 9 else tuple(float(v) for v in quality * e.activations + rng.random(24) * 3),
            e.source,
            e.quantile,
            e.document,
            REFUSED if i % 10 == 9 else None,
        )
        for i, e in enumerate((*record.test, *record.non_activating.test))
    )
    score = Score(record.feature, "simulation", named, "simulation", (), simulations=simulations)
    store.add_score(score, JUDGE)
    found = tuple(Trial(True, bool(rng.random() < quality), None, "generated", None, i) for i in range(10))
    store.add_score(Score(record.feature, "sensitivity", named, "classification", found), "subject")
