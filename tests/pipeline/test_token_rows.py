"""A run's rows: the BOS policy is said and stored, and the manifest gives the same rows again, to the byte."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sae_auto_interp.cache.tokens import load_tokens, rows_sha256
from sae_auto_interp.config import RunConfig, parse_config
from sae_auto_interp.errors import CacheError, ConfigError, InputError
from sae_auto_interp.pipeline.resolved import resolve_inputs
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.pipeline.token_rows import bos_policy, rebuilt_rows, token_rows
from sae_auto_interp.types import TokenRows
from tests.support.records import byte_level_tokenizer, chat_tokenizer

TEXTS = [f"Text number {i} is about {word}, and about nothing else. " * 3 for i, word in enumerate(["a", "b", "c"] * 9)]


class Notes:
    """A `Progress` that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    def start(self, stage: str, total: int, done: int, unit: str) -> None: ...

    def advance(self, n: int = 1, failed: int = 0) -> None: ...

    def finish(self) -> None: ...


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return chat_tokenizer(TEXTS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    import datasets

    datasets.disable_progress_bars()
    table = datasets.Dataset.from_dict({"text": TEXTS})
    (tmp_path / "tables").mkdir()
    table.to_parquet(tmp_path / "tables" / "a.parquet")
    table.save_to_disk(tmp_path / "saved")
    datasets.enable_progress_bars()
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    messages = [json.dumps({"messages": [{"role": "user", "content": text}]}) for text in TEXTS]
    (tmp_path / "chats.jsonl").write_text("\n".join(messages))
    np.save(tmp_path / "ids.npy", np.random.default_rng(0).integers(1, 250, (50, 16)))
    np.save(tmp_path / "stream.npy", np.random.default_rng(0).integers(0, 40, 1000))
    return tmp_path


def config_of(seed: int = 0, **data: Any) -> RunConfig:
    data = {"ctx_len": 16, "n_tokens": 300} | data
    return parse_config({"model": "m", "autoencoders": ["a"], "data": data, "seed": seed})


def make(config: RunConfig, root: Path, tokenizer: Any, bos: bool = False) -> tuple[TokenRows, RunDirectory, list[str]]:
    directory, notes = RunDirectory(root), Notes()
    root.mkdir()
    return token_rows(resolve_inputs(config).text, directory, tokenizer, {"h.0": bos}, notes), directory, notes.lines


SOURCES: list[dict[str, Any]] = [
    {"source": "standard_library", "n_tokens": 2000},
    {"source": "{}/a.jsonl"},
    {"source": "{}/tables", "packing": True},
    {"source": "{}/a.jsonl", "shuffle_buffer": 5, "skip_documents": 2, "max_documents": 9, "packing": True},
    {"source": "hf:{}/tables", "shuffle_buffer": 100, "separator": "none", "packing": True},
    {"source": "hf:json", "data_files": "{}/*.jsonl", "n_tokens": 100, "max_documents": 5},
    {"source": "{}/saved", "max_chars_per_document": 40},
    {"source": "{}/chats.jsonl", "messages_field": "messages", "mask_special_tokens": False},
    {"source": "{}/ids.npy", "shuffle_buffer": 10, "prepend_bos": False},
    {"source": "{}/stream.npy"},
]


@pytest.mark.parametrize("data", SOURCES, ids=lambda data: data["source"])
@pytest.mark.parametrize("bos", [False, True])
def test_rows_made_again_from_the_manifest_are_the_same_bytes(
    data: dict[str, Any], bos: bool, folder: Path, tokenizer: Any
) -> None:
    data = {k: v.format(folder) if isinstance(v, str) else v for k, v in data.items()}
    rows, directory, _ = make(config_of(seed=3, **data), folder / "run", tokenizer, bos)
    again = rebuilt_rows(directory.data, tokenizer)
    for name in ("tokens", "documents"):
        one, other = getattr(rows, name), getattr(again, name)
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    assert rows.document_names == again.document_names
    assert rows_sha256(load_tokens(directory.tokens)) == json.loads(directory.data.read_text())["rows_sha256"]


def test_the_bos_policy_is_said_and_stored(folder: Path, tokenizer: Any) -> None:
    data: dict[str, Any] = {"source": str(folder / "a.jsonl")}
    for name, config, trained, said, stored in (
        ("a", config_of(**data), True, "rows begin with BOS ('<|end|>'), as the autoencoders were trained", True),
        ("b", config_of(**data), False, "rows have no BOS in front, as the autoencoders were trained", False),
        ("c", config_of(**data, prepend_bos=False), True, "rows have no BOS in front, as data.prepend_bos says", False),
    ):
        rows, directory, notes = make(config, folder / name, tokenizer, trained)
        assert said in notes
        manifest = json.loads(directory.data.read_text())
        assert manifest["layout"]["prepend_bos"] is stored
        assert manifest["prepend_bos_from"] == ("data.prepend_bos" if name == "c" else "autoencoders")
        assert (rows.tokens[:, 0] == tokenizer.bos_token_id).all() == stored


def test_autoencoders_that_disagree_are_named() -> None:
    with pytest.raises(ConfigError, match=r"h\.0: with, h\.1: without"):
        bos_policy(resolve_inputs(config_of()).text, {"h.0": True, "h.1": False})
    assert bos_policy(resolve_inputs(config_of(prepend_bos=True)).text, {"h.0": True, "h.1": False}).prepend_bos


@pytest.mark.parametrize(
    ("policies", "assumed", "expected"),
    [
        ({"h.0": True, "h.1": False, "h.2": False}, {"h.0"}, (False, "autoencoders")),
        ({"h.0": True, "h.1": False}, {"h.1"}, (True, "autoencoders")),
        ({"h.0": True, "h.1": False}, {"h.0", "h.1"}, (True, "assumption")),
        ({"h.0": False}, {"h.0"}, (False, "assumption")),
        ({}, {"h.0"}, (False, "autoencoders")),
    ],
)
def test_an_assumption_disagrees_with_nothing(
    policies: dict[str, bool], assumed: set[str], expected: tuple[bool, str]
) -> None:
    policy = bos_policy(resolve_inputs(config_of()).text, policies, assumed)
    assert (policy.prepend_bos, policy.origin) == expected


def test_what_is_recorded_still_disagrees_beside_an_assumption() -> None:
    with pytest.raises(ConfigError, match=r"\(h\.0: with, h\.1: without\)"):
        bos_policy(resolve_inputs(config_of()).text, {"h.0": True, "h.1": False, "h.2": True}, {"h.2"})


def test_an_assumption_is_said_to_be_one(folder: Path, tokenizer: Any) -> None:
    policy = bos_policy(resolve_inputs(config_of(source=str(folder / "a.jsonl"))).text, {"h.0": False}, {"h.0"})
    assert policy.describe(tokenizer) == (
        "rows have no BOS in front, which is assumed: the autoencoders' files do not record it "
        "(data.prepend_bos decides)"
    )


def test_rows_are_made_once(folder: Path, tokenizer: Any) -> None:
    config = config_of(source=str(folder / "a.jsonl"))
    rows, directory, _ = make(config, folder / "run", tokenizer)
    (folder / "a.jsonl").unlink()
    again = token_rows(resolve_inputs(config).text, directory, tokenizer, {"h.0": False}, Notes())
    assert rows_sha256(again) == rows_sha256(rows)


def test_the_seed_decides_the_order_of_shuffled_documents(folder: Path, tokenizer: Any) -> None:
    data = {"source": str(folder / "a.jsonl"), "shuffle_buffer": 50}
    names = [make(config_of(seed, **data), folder / f"{seed}", tokenizer)[0].document_names for seed in (0, 1)]
    assert names[0] != names[1]


def test_what_changed_since_is_named(folder: Path, tokenizer: Any) -> None:
    _, directory, _ = make(config_of(source=str(folder / "a.jsonl")), folder / "run", tokenizer)
    with pytest.raises(InputError, match="made with another tokenizer"):
        rebuilt_rows(directory.data, byte_level_tokenizer(["other"]))
    content = json.loads(directory.data.read_text())
    directory.data.write_text(json.dumps(content | {"layout": content["layout"] | {"packing": True}}))
    with pytest.raises(InputError, match="the rows come out otherwise than they were"):
        rebuilt_rows(directory.data, tokenizer)
    with (folder / "a.jsonl").open("a") as file:
        file.write('\n{"text": "one more"}')
    with pytest.raises(InputError, match="source changed since the rows were made"):
        rebuilt_rows(directory.data, tokenizer)
    for text in ("{", json.dumps(content | {"format_version": 9}), json.dumps({**content, "layout": {"x": 1}}), "[]"):
        directory.data.write_text(text)
        with pytest.raises(InputError, match=r"data\.json"):
            rebuilt_rows(directory.data, tokenizer)


def test_a_dataset_of_the_hub_is_stored_with_its_commit(
    folder: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    import huggingface_hub

    commit, loaded = "ab" * 20, []

    class Info:
        sha = commit

    def load_dataset(name: str, subset: str | None, **options: Any) -> Any:
        loaded.append((name, options["revision"]))
        return datasets.Dataset.from_dict({"text": TEXTS}).to_iterable_dataset()

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, name, revision: Info())
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    rows, directory, _ = make(config_of(source="hf:owner/name@main"), folder / "run", tokenizer)
    assert json.loads(directory.data.read_text())["source"]["source"] == f"hf:owner/name@{commit}"
    assert rows_sha256(rebuilt_rows(directory.data, tokenizer)) == rows_sha256(rows)
    assert loaded == [("owner/name", commit)] * 2


def test_rows_that_are_not_those_of_the_manifest_are_refused(folder: Path, tokenizer: Any) -> None:
    """Which document a token is of decides what is for training and what for tests."""
    rows, directory, _ = make(config_of(source=f"{folder}/a.jsonl"), folder / "run", tokenizer)
    assert np.array_equal(directory.load_tokens().documents, rows.documents)
    documents = np.where(rows.documents == 1, 0, rows.documents).astype(np.int32)
    directory.save_tokens(TokenRows(rows.tokens, documents, rows.document_names))
    with pytest.raises(CacheError, match=r"tokens\.safetensors .*is not what .*data\.json says"):
        directory.load_tokens()
    directory.save_tokens(rows)
    directory.data.write_text("[" * 100_000)
    with pytest.raises(CacheError, match=r"data\.json is damaged"):
        directory.load_tokens()
    directory.data.unlink()
    assert np.array_equal(directory.load_tokens().tokens, rows.tokens), "an older run has no data.json"
