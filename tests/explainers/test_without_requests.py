"""Explainers that ask nobody: one text for all, and explanations from a file."""

import asyncio
import gzip
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
        ("[1]", r"line 2, entry 1: is 1, not an explanation; write one .*per line"),
        ("7", "line 2: is 7, not an explanation"),
        ('{"feature": "h.1:' + "9" * 5000 + '", "text": "x"}', r"line 2: .* is no feature's index"),
        ('{"index": ' + "9" * 5000 + "}", "line 2: cannot be read as JSON .*4300"),
        ("[" * 100_000, "line 2: cannot be read as JSON .*nested too deeply"),
        ('{"a":' * 100_000, "line 2: cannot be read as JSON .*nested too deeply"),
        ('{"h.1:1": "x", "h.1:1": "y"}', r"line 2: .*'h\.1:1' stands there twice"),
        ({"module_path": "h.1", "index": -1, "text": "x"}, "line 2: -1 is no feature's index"),
        ({"module_path": "h.1", "index": 1.5, "text": "x"}, "line 2: 1.5 is no feature's index"),
        ({"module_path": "h.1", "index": True, "text": "x"}, "line 2: True is no feature's index"),
        ({"h.1:1": 3}, "line 2, 'h.1:1': no text: 3"),
        ({"feature": "h.1:3"}, "line 2: no text"),
        ({"feature": "h.1", "text": "x"}, "line 2: 'h.1' is no feature"),
        ({"module_path": "h.1", "text": "x"}, "line 2: no feature"),
    ],
)
def test_a_malformed_file_is_refused_with_the_line(tmp_path: Path, entry: object, message: str) -> None:
    path = write(tmp_path / "e.jsonl", {"feature": "h.1:0", "text": "fine"}, entry)
    with pytest.raises(InputError, match=message):
        StoredExplainer(path=path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file .*nowhere"):
        StoredExplainer(path=str(tmp_path / "nowhere.jsonl"))


MONEY, TIME = FeatureId("h.1", 17), FeatureId("h.2", 6)
FORMS = {
    "pretty mapping": json.dumps({"h.1:17": "money", "h.2:6": "time"}, indent=2),
    "mapping": json.dumps({"h.1:17": "money", "h.2:6": "time"}),
    "by module": json.dumps({"h.1": {"17": "money"}, "h.2": {"6": "time"}}, indent=1),
    "array": json.dumps([{"feature": "h.1:17", "text": "money"}, {"layer": "h.2", "index": "6", "text": "time"}]),
    "pretty array": json.dumps(
        [{"feature": "h.1:17", "text": "money"}, {"module_path": "h.2", "index": 6, "explanation": "time"}], indent=4
    ),
    "lists of texts": json.dumps({"h.1:17": ["money", "coins"], "h.2:6": [{"description": "time"}]}),
    "lines of mappings": '{"h.1:17": "money"}\n\n{"h.2": {"6": "time"}}\n',
    "whole features": json.dumps(
        [{"modelId": "m", "layer": "h.1", "index": "17", "explanations": [{"text": "money"}, {"text": "x"}]},
         {"modelId": "m", "layer": "h.2", "index": "6", "explanations": [{"description": "time"}]}]
    ),
    "with a mark": "\ufeff" + json.dumps({"h.1:17": "money", "h.2:6": "time"}),
    "carriage returns": '{"h.1:17": "money"}\r\n{"h.2:6": "time"}\r\n',
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("packed", [False, True])
def test_forms_that_people_have(form: str, packed: bool, tmp_path: Path) -> None:
    content = FORMS[form].encode()
    path = tmp_path / "e.json"
    path.write_bytes(gzip.compress(content) if packed else content)
    stored = StoredExplainer(path=str(path))
    assert (text_of(stored, MONEY), text_of(stored, TIME)) == ("money", "time")
    assert stored.features == {MONEY, TIME}


def test_a_folder_of_delphi(tmp_path: Path) -> None:
    (tmp_path / "h.1_latent17.txt").write_text('"money \\u00e9"')
    (tmp_path / "h.2_feature6.txt").write_text("time\n")
    (tmp_path / "log.txt").write_text("something else")
    stored = StoredExplainer(path=str(tmp_path))
    assert (text_of(stored, MONEY), text_of(stored, TIME)) == ("money é", "time")
    digest = stored.content_sha256
    (tmp_path / "h.2_feature6.txt").write_text("space")
    assert StoredExplainer(path=str(tmp_path)).content_sha256 != digest
    (tmp_path / "h.2_latent7.txt").write_text('"cut')
    with pytest.raises(InputError, match=r"h\.2_latent7\.txt: is not valid JSON"):
        StoredExplainer(path=str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "Git LFS pointer"),
        (b"\x1f\x8b\x08\x00broken", "cannot be unpacked"),
        (b'{\n "h.1:17": "money",\n "h.1:18" "time"\n}', "line 3: is not valid JSON"),
        (b'{\n "h.1:17": "money",\n "h.1:17": "time"\n}', "stands there twice"),
        (b"[\n" + b"[\n" * 100_000, "nested too deeply"),
        (b"", "holds no explanation"),
        (b"index,explanation\n17,money\n", "line 1: is not valid JSON"),
        (b"[[1]]", "entry 1: is"),
        (b'{"h.1": {"x": "money"}}', "'x' is no feature's index"),
    ],
)
def test_what_cannot_be_read_is_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "e.json").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        StoredExplainer(path=str(tmp_path / "e.json"))
    assert str(tmp_path / "e.json") in str(caught.value)


def test_of_several_explanations_one_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "e.jsonl", *({"feature": "h.1:17", "text": text} for text in ("N/A", "money", "coins")))
    assert text_of(StoredExplainer(path=path), MONEY) == "money"
    assert text_of(StoredExplainer(path=path, several="last"), MONEY) == "coins"
    assert StoredExplainer(path=path).n_several == 1


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("429 Too Many Requests", "error_text"),
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("[insert explanation here]", "placeholder"),
        ("N/A", "no_finding"),
        ("Error: connection refused", "error_text"),
    ],
)
def test_texts_that_are_none_are_left_out(text: str, kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / "e.jsonl", {"feature": "h.1:17", "text": text}, {"feature": "h.2:6", "text": "time"})
    stored = StoredExplainer(path=path)
    assert (stored.n_left_out, stored.features) == (1, {TIME})
    found = asyncio.run(stored.explain(replace(make_evidence(), feature=MONEY)))
    assert isinstance(found, Failure)
    assert found.kind == kind
