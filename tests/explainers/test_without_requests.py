"""Explainers that ask nobody: one text for all, and explanations from a file."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from sae_auto_interp.errors import ConfigError, InputError
from sae_auto_interp.explainers import NoOpExplainer, StoredExplainer
from sae_auto_interp.types import Explanation, Failure, FeatureId
from tests.support.evidence import make_evidence

FEATURES = [FeatureId(path, i) for path in ("h.1", "h.10") for i in range(4)] + [FeatureId("h.2", 0)]


def write(path: Path, *entries: object) -> str:
    lines = [e if isinstance(e, str) else json.dumps(e) for e in entries]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogateescape")
    return str(path)


def text_of(explainer: StoredExplainer, feature: FeatureId) -> str | None:
    found = asyncio.run(explainer.explain(replace(make_evidence(), feature=feature)))
    return found.text if isinstance(found, Explanation) else None


def test_one_text_for_every_feature() -> None:
    found = asyncio.run(NoOpExplainer().explain(make_evidence()))
    assert isinstance(found, Explanation)
    assert found.text == "any text"
    with pytest.raises(ConfigError, match=r"no_op\.text is empty"):
        NoOpExplainer(text=" ")


def test_stored_explanations_are_found_by_feature(tmp_path: Path) -> None:
    path = write(
        tmp_path / "e.jsonl", {"feature": "h.1:3", "explanation": " cats "}, "",
        {"module_path": "h.10", "index": 3, "description": "dogs"}, {"feature": "h.1:2", "text": "<b>"},
    )  # fmt: skip
    stored = StoredExplainer(path=path)
    found = {str(f): text_of(stored, f) for f in FEATURES}
    assert {name: text for name, text in found.items() if text} == {"h.1:3": "cats", "h.10:3": "dogs", "h.1:2": "<b>"}
    missing = asyncio.run(stored.explain(replace(make_evidence(), feature=FeatureId("h.1", 0))))
    assert isinstance(missing, Failure)
    assert missing.kind == "not_stored"


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_explanations_are_of_the_same_module_and_never_ones_own(tmp_path: Path, seed: int) -> None:
    path = write(tmp_path / "e.jsonl", *({"feature": str(f), "explanation": str(f)} for f in FEATURES))
    shuffled = StoredExplainer(path=path, shuffled=True, seed=seed)
    texts = {f: text_of(shuffled, f) for f in FEATURES}
    assert texts.pop(FeatureId("h.2", 0)) is None, "alone in its module"
    assert all(text != str(f) and str(text).startswith(f"{f.module_path}:") for f, text in texts.items())
    assert sorted(map(str, texts.values())) == sorted(map(str, texts)), "each is used once"
    assert texts == {f: text_of(StoredExplainer(path=path, shuffled=True, seed=seed), f) for f in texts}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{", "line 2: is not valid JSON"),
        ("\udcff", "line 2: is not UTF-8"),
        ("[1]", "line 2: no text under any of explanation"),
        ({"feature": "h.1:3"}, "line 2: no text"),
        ({"feature": "h.1", "text": "x"}, "line 2: no feature"),
        ({"module_path": "h.1", "text": "x"}, "line 2: no feature"),
        ({"feature": "h.1:0", "text": "another"}, r"line 2: h\.1:0 has another explanation further up"),
    ],
)
def test_a_malformed_file_is_refused_with_the_line(tmp_path: Path, entry: object, message: str) -> None:
    path = write(tmp_path / "e.jsonl", {"feature": "h.1:0", "text": "fine"}, entry)
    with pytest.raises(InputError, match=message):
        StoredExplainer(path=path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file .*nowhere"):
        StoredExplainer(path=str(tmp_path / "nowhere.jsonl"))
