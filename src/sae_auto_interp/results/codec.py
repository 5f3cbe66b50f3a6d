"""Frozen values <-> bytes, without loss.

JSON in UTF-8 with lone surrogates kept (`surrogatepass`): a tokenizer may cut a character in half, and what the
model saw must come back exactly. Activations keep 5 significant digits, more than the 11 bits of a bf16 or f16
cache and a third of the digits of a float; `rounded` is what a record looks like after a round trip.

Records and scores are compressed; explanations and failures stay readable in any SQLite browser.
"""

import json
import zlib
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from sae_auto_interp.types import (
    Candidate,
    ChoiceTrial,
    Example,
    Explanation,
    Failure,
    FeatureId,
    FeatureProfile,
    FeatureRecord,
    FeatureStats,
    NonActivating,
    Score,
    Shortage,
    SimulationTrial,
    TokenLogits,
    Trial,
    Usage,
)

Json: TypeAlias = dict[str, Any]
SIGNIFICANT_DIGITS = 5


def encode_record(record: FeatureRecord) -> bytes:
    """A record as compressed JSON."""
    return _compressed(
        {
            "feature": str(record.feature),
            "stats": asdict(record.stats),
            "train": [_example_to_json(e) for e in record.train],
            "test": [_example_to_json(e) for e in record.test],
            "explain_negatives": [_example_to_json(e) for e in record.non_activating.explain],
            "test_negatives": [_example_to_json(e) for e in record.non_activating.test],
            "dev": [_example_to_json(e) for e in record.dev],
            "dev_negatives": [_example_to_json(e) for e in record.non_activating.dev],
            "logits": None if record.logits is None else asdict(record.logits),
            "shortages": [asdict(shortage) for shortage in record.shortages],
            "profile": None if record.profile is None else asdict(record.profile),
        }
    )


def decode_record(content: bytes) -> FeatureRecord:
    """The inverse of `encode_record`, up to the rounding of activations."""
    fields = _decompressed(content)
    return FeatureRecord(
        feature=FeatureId.parse(fields["feature"]),
        stats=_stats(fields["stats"]),
        train=_examples(fields, "train"),
        test=_examples(fields, "test"),
        non_activating=NonActivating(
            explain=_examples(fields, "explain_negatives"),
            test=_examples(fields, "test_negatives"),
            dev=_examples(fields, "dev_negatives"),
        ),
        dev=_examples(fields, "dev"),
        logits=_logits(fields.get("logits")),
        shortages=tuple(Shortage(**shortage) for shortage in fields.get("shortages", ())),
        profile=_profile(fields.get("profile")),
    )


def encode_score(score: Score) -> bytes:
    """A score with all its trials as compressed JSON. Simulations and choices are written only where there are some.

    So a score without them has the bytes that it had before they existed.
    """
    simulations = [_simulation_to_json(s) for s in score.simulations]
    choices = [_choice_to_json(c) for c in score.choices]
    return _compressed(
        {
            "feature": str(score.feature),
            "scorer": score.scorer,
            "explanation_id": score.explanation_id,
            "kind": score.kind,
            "trials": [_trial_to_json(t) for t in score.trials],
            "usage": _usage_to_json(score.usage),
        }
        | ({"simulations": simulations} if simulations else {})
        | ({"choices": choices} if choices else {})
        | ({"n_split": score.n_split} if score.n_split else {})
    )


def has_failed_trial(content: bytes) -> bool:
    """Whether any trial of a stored score failed, without decoding it: failures alone have a stage."""
    return b'"stage":' in _plain(content)


def decode_score(content: bytes) -> Score:
    """The inverse of `encode_score`."""
    fields = _decompressed(content)
    return Score(
        feature=FeatureId.parse(fields["feature"]),
        scorer=fields["scorer"],
        explanation_id=fields["explanation_id"],
        kind=fields["kind"],
        trials=tuple(_trial_from_json(t) for t in fields["trials"]),
        usage=Usage(**fields["usage"]),
        simulations=tuple(_simulation_from_json(s) for s in fields.get("simulations", [])),
        choices=tuple(_choice_from_json(c) for c in fields.get("choices", [])),
        n_split=fields.get("n_split", 0),
    )


def encode_explanation(explanation: Explanation) -> bytes:
    """An explanation as readable JSON; candidates are written only where there are some, as in `encode_score`."""
    fields = asdict(explanation) | {
        "feature": str(explanation.feature), "usage": _usage_to_json(explanation.usage)
    }  # fmt: skip
    if not explanation.candidates:
        del fields["candidates"]
    if explanation.n_shown is None:
        del fields["n_shown"]
    return _dump(fields)


def _usage_to_json(usage: Usage) -> dict[str, int]:
    """Requests without a count are written only where there are some: other results keep their bytes."""
    fields = asdict(usage)
    return fields if usage.n_uncounted else {name: n for name, n in fields.items() if name != "n_uncounted"}


def decode_explanation(content: bytes) -> Explanation:
    """The inverse of `encode_explanation`."""
    fields = _load(content)
    feature, usage = FeatureId.parse(fields.pop("feature")), Usage(**fields.pop("usage"))
    candidates = tuple(Candidate(**candidate) for candidate in fields.pop("candidates", ()))
    return Explanation(**fields, feature=feature, usage=usage, candidates=candidates)


def encode_failure(failure: Failure) -> bytes:
    """A failure as readable JSON."""
    return _dump(asdict(failure))


def decode_failure(content: bytes) -> Failure:
    """The inverse of `encode_failure`."""
    return Failure(**_load(content))


def is_same(first: bytes, second: bytes) -> bool:
    """Whether two encoded values are equal; two builds of zlib may compress one value differently."""
    return first == second or _plain(first) == _plain(second)


def rounded(example: Example) -> Example:
    """The example as it comes back from the store; one that never fires is already so."""
    values = _rounded_values(example)
    return replace(example, activations=np.array(values, dtype=np.float32)) if any(values) else example


def rounded_record(record: FeatureRecord) -> FeatureRecord:
    """The record as it comes back from the store."""
    pools = record.non_activating
    return replace(
        record,
        train=tuple(map(rounded, record.train)),
        test=tuple(map(rounded, record.test)),
        dev=tuple(map(rounded, record.dev)),
        non_activating=NonActivating(*(tuple(map(rounded, pool)) for pool in (pools.explain, pools.test, pools.dev))),
    )


def _examples(fields: Json, pool: str) -> tuple[Example, ...]:
    """A pool of examples; records written before there were development pools have none."""
    return tuple(_example_from_json(e) for e in fields.get(pool, ()))


def _stats(fields: Json) -> FeatureStats:
    """Older records know of no near-duplicates and edges."""
    edges: tuple[float, ...] = tuple(fields.pop("quantile_edges", ()))
    return FeatureStats(**fields, quantile_edges=edges)


def _profile(fields: Json | None) -> FeatureProfile | None:
    if fields is None:
        return None
    peaks = tuple((str(token), int(n)) for token, n in fields.pop("peak_tokens"))
    return FeatureProfile(labels=tuple(fields.pop("labels")), peak_tokens=peaks, **fields)


def _logits(fields: Json | None) -> TokenLogits | None:
    if fields is None:
        return None
    top, bottom = (tuple((str(t), float(v)) for t, v in fields[name]) for name in ("top", "bottom"))
    return TokenLogits(top, bottom)


def _example_to_json(example: Example) -> Json:
    return {
        "tokens": example.tokens.tolist(),
        "strings": list(example.str_tokens),
        "activations": _rounded_values(example),
        "row": example.row,
        "start": example.start,
        "document": example.document,
        "source": example.source,
        "quantile": example.quantile,
        "neighbour": None if example.neighbour is None else str(example.neighbour),
        "distance": example.distance,
    }


def _example_from_json(fields: Json) -> Example:
    neighbour = fields["neighbour"]
    return Example(
        tokens=np.array(fields["tokens"], dtype=np.int32),
        str_tokens=tuple(fields["strings"]),
        activations=np.array(fields["activations"], dtype=np.float32),
        row=fields["row"],
        start=fields["start"],
        document=fields["document"],
        source=fields["source"],
        quantile=fields["quantile"],
        neighbour=None if neighbour is None else FeatureId.parse(neighbour),
        distance=fields["distance"],
    )


def _trial_to_json(trial: Trial) -> list[Any]:
    """A list in the order of the fields: there are hundreds of trials per score."""
    failure = None if trial.failure is None else asdict(trial.failure)
    return [
        trial.target,
        trial.prediction,
        trial.confidence,
        trial.source,
        trial.quantile,
        trial.document,
        failure,
    ]


def _trial_from_json(fields: list[Any]) -> Trial:
    *values, failure = fields
    return Trial(*values, failure=None if failure is None else Failure(**failure))


def _choice_to_json(choice: ChoiceTrial) -> list[Any]:
    """In the order of the fields."""
    failure = None if choice.failure is None else asdict(choice.failure)
    return [
        choice.target,
        choice.chosen,
        choice.n_choices,
        choice.source,
        choice.quantile,
        choice.document,
        failure,
    ]


def _choice_from_json(fields: list[Any]) -> ChoiceTrial:
    *values, failure = fields
    return ChoiceTrial(*values, failure=None if failure is None else Failure(**failure))


def _simulation_to_json(simulation: SimulationTrial) -> list[Any]:
    """In the order of the fields. Numbers keep all their digits: a score is decided by them."""
    failure = None if simulation.failure is None else asdict(simulation.failure)
    predicted = None if simulation.predicted is None else list(simulation.predicted)
    return [
        list(simulation.true),
        predicted,
        simulation.source,
        simulation.quantile,
        simulation.document,
        failure,
    ]


def _simulation_from_json(fields: list[Any]) -> SimulationTrial:
    true, predicted, source, quantile, document, failure = fields
    return SimulationTrial(
        true=tuple(true),
        predicted=None if predicted is None else tuple(predicted),
        source=source,
        quantile=quantile,
        document=document,
        failure=None if failure is None else Failure(**failure),
    )


def _rounded_values(example: Example) -> list[float | int]:
    """Exact zeros, most of a window, become the one character 0."""
    values: list[float] = example.activations.tolist()
    return [_round(value) if value else 0 for value in values]


@lru_cache(maxsize=1 << 16)  # activations of a cache have 16 bits, so there are not more of them
def _round(value: float) -> float:
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def _compressed(fields: Json) -> bytes:
    return zlib.compress(_dump(fields), level=1)  # a sixth more than at level 6, for a quarter of the time


def _plain(content: bytes) -> bytes:
    """The JSON itself, which starts with a brace where a compressed value does not."""
    return content if content.startswith(b"{") else zlib.decompress(content)


def _decompressed(content: bytes) -> Json:
    return _load(_plain(content))


def _dump(fields: Json) -> bytes:
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return text.encode("utf-8", "surrogatepass")


def _load(content: bytes) -> Json:
    return json.loads(content.decode("utf-8", "surrogatepass"))
