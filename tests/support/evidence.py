"""Records of planted features, judges whose answers are known beforehand, and requests as text for golden files."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sae_auto_interp.types import (
    Example,
    ExampleSource,
    Explanation,
    Failure,
    FeatureId,
    FeatureRecord,
    FeatureStats,
    NonActivating,
    Request,
    ShownExample,
    Usage,
    Verdict,
)

FEATURE = FeatureId("transformer.h.1", 7)
VOCABULARY = (
    " the", " a", " of", " to", " in", " is", " not", " cat", " dog", " river", " runs", " Paris", " Rome", "import",
    " import", " Import", " def", " return", " class", " self", " foo", " bar", " 7", " 42", "(", ")", ":", ",", ".",
    "\n", "ing", "ed", " light", " water", " paper", " table",
)  # fmt: skip
Fires = Callable[[Sequence[str], int], bool]
"""Whether a planted feature fires at a position of a text."""


def make_example(
    str_tokens: Sequence[str],
    activations: Sequence[float] | None = None,
    *,
    document: int = 0,
    source: ExampleSource | None = None,
    quantile: int | None = None,
) -> Example:
    """A window of the given tokens; activating where it has an activation above zero."""
    values = np.zeros(len(str_tokens), np.float32) if activations is None else np.array(activations, np.float32)
    ids = np.arange(len(values), dtype=np.int32)
    kind = source or ("activating" if values.max(initial=0) > 0 else "random")
    return Example(
        ids, tuple(str_tokens), values, row=document, start=0, document=document, source=kind, quantile=quantile
    )


def make_evidence(
    train: Sequence[Example] = (),
    test: Sequence[Example] = (),
    explain: Sequence[Example] = (),
    silent: Sequence[Example] = (),
    feature: FeatureId = FEATURE,
) -> FeatureRecord:
    """A record of exactly these examples; `explain` and `silent` are the pools of non-activating ones."""
    largest = max((example.max_activation for example in (*train, *test)), default=0.0)
    stats = FeatureStats(10_000, 100, 300, 90, largest, largest / 2)
    return FeatureRecord(feature, stats, tuple(train), tuple(test), NonActivating(tuple(explain), tuple(silent)))


def planted_record(
    fires: Fires,
    *,
    n: int = 30,
    n_silent: int | None = None,
    window: int = 12,
    seed: int = 0,
    vocabulary: Sequence[str] = VOCABULARY,
    feature: FeatureId = FEATURE,
) -> FeatureRecord:
    """Random windows in which a feature fires, 1 to 9 strong, exactly where `fires` says; one document each."""
    rng = np.random.default_rng(seed)
    wanted = {"train": n, "test": n, "explain": n_silent or n, "silent": n_silent or n}
    pools: dict[str, list[Example]] = {name: [] for name in wanted}
    for document in range(200_000):
        tokens = [str(vocabulary[int(i)]) for i in rng.integers(len(vocabulary), size=window)]
        strengths = [float(rng.integers(1, 10)) if fires(tokens, i) else 0.0 for i in range(window)]
        names = ("train", "test") if any(strengths) else ("explain", "silent")
        name = min(names, key=lambda name: len(pools[name]))
        if len(pools[name]) < wanted[name]:
            pools[name].append(make_example(tokens, strengths, document=document))
        if all(len(pools[name]) == wanted[name] for name in wanted):
            train, test = (sorted(pools[name], key=lambda e: -e.max_activation) for name in ("train", "test"))
            return make_evidence(train, test, pools["explain"], pools["silent"], feature)
    raise AssertionError("the planted feature fires nearly always or nearly never")


def explanation_of(record: FeatureRecord, text: str = "what it fires on") -> Explanation:
    return Explanation(record.feature, text, "by_hand", "by_hand-1")


@dataclass(frozen=True)
class PlainJudge:
    """Answers each shown example by a function of it alone, and remembers every batch."""

    answer: Callable[[ShownExample], bool | float | Failure]
    name: str = "plain"
    batches: list[list[ShownExample]] = field(default_factory=list)
    tasks: set[str] = field(default_factory=set)

    async def judge(
        self, explanation: str, examples: Sequence[ShownExample], task: str
    ) -> tuple[list[Verdict | Failure], Usage]:
        self.batches.append(list(examples))
        self.tasks.add(task)
        answers = [self.answer(example) for example in examples]
        return [a if isinstance(a, Failure) else Verdict(bool(a)) for a in answers], Usage(n_requests=1)


def oracle(fires: Fires) -> PlainJudge:
    """Knows the planted feature: does it fire anywhere, or, where there are marks, on every marked token?"""

    def answer(shown: ShownExample) -> bool:
        where = [fires(shown.str_tokens, i) for i in range(len(shown.str_tokens))]
        if shown.highlighted is None:
            return any(where)
        return all(fired for fired, marked in zip(where, shown.highlighted, strict=True) if marked)

    return PlainJudge(answer, "oracle")


def assert_golden(request: Request, file: Path) -> None:
    """The request reads, to the letter, as it does in the file."""
    settings = {"sampling": [request.sampling.temperature, request.sampling.max_tokens, request.sampling.seed]}
    schema = None if request.schema is None else json.loads(request.schema)
    words = schema.pop("description", None) if schema is not None else None
    settings |= {"schema": schema}
    parts = [f"======== {message.role}\n{message.content}" for message in request.messages]
    parts += [] if words is None else [f"======== words of the schema\n{words}"]
    text = "\n".join([*parts, f"======== settings\n{json.dumps(settings, sort_keys=True)}"]) + "\n"
    expected = file.read_text(encoding="utf-8") if file.is_file() else ""
    assert text == expected, f"{file.name} should hold:\n{text}"
