"""A run directory belongs to one configuration, by content and not by path."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sae_auto_interp.config import RunConfig, parse_config
from sae_auto_interp.errors import CacheError, RunDirectoryError
from sae_auto_interp.pipeline.cache_stage import load_model
from sae_auto_interp.pipeline.resolved import resolve_inputs
from sae_auto_interp.pipeline.run_directory import RunDirectory, evidence_settings, path_digest
from sae_auto_interp.types import TokenRows
from tests.support.hub_server import COMMIT, hub_server


def config_of(folder: Path, **settings: Any) -> RunConfig:
    """A configuration whose model and autoencoder are small files."""
    for name in ("model", "coders"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "weights").write_text(name)
    return parse_config({"model": str(folder / "model"), "autoencoders": [str(folder / "coders")]} | settings)


def test_claimed_again_by_the_same_configuration_elsewhere(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.claim(evidence_settings(config_of(tmp_path / "a")))
    fingerprint = directory.fingerprint()
    directory.claim(evidence_settings(config_of(tmp_path / "b")))  # the same content at other paths
    directory.claim(
        evidence_settings(config_of(tmp_path / "a", scorers=["fuzzing"], client={"base_url": "http://127.0.0.1:1"}))
    )
    assert directory.fingerprint() == fingerprint


def test_a_run_directory_survives_the_loss_of_its_model(tmp_path: Path) -> None:
    config = config_of(tmp_path / "a")
    directory = RunDirectory(tmp_path / "run")
    directory.claim(evidence_settings(config))
    shutil.rmtree(tmp_path / "a")
    directory.claim(evidence_settings(config))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"data": {"n_tokens": 7}}, "data.n_tokens"),
        ({"features": {"n_test": 60}}, "features.n_test"),
        ({"cache": {"activation_dtype": "float32"}}, "cache.activation_dtype"),
        ({"data": {"source": "elsewhere.txt"}}, "data.source"),
    ],
)
def test_another_configuration_is_refused_and_named(settings: dict[str, Any], named: str, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.claim(evidence_settings(config_of(tmp_path)))
    before = directory.manifest.read_bytes()
    with pytest.raises(RunDirectoryError, match=rf"\({named} changed\)"):
        directory.claim(evidence_settings(config_of(tmp_path, **settings)))
    assert directory.manifest.read_bytes() == before


def test_changed_weights_are_another_configuration(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    directory = RunDirectory(tmp_path / "run")
    directory.claim(evidence_settings(config))
    (tmp_path / "coders" / "weights").write_text("retrained")
    with pytest.raises(RunDirectoryError, match=r"autoencoders\[0\] changed"):
        directory.claim(evidence_settings(config))


def test_a_data_file_that_is_dropped_or_added_is_noticed(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(name)
    files = [str(tmp_path / name) for name in ("a.jsonl", "b.jsonl")]
    both, one = (config_of(tmp_path, data={"source": "hf:json", "data_files": n}) for n in (files, files[:1]))
    for name, first, second in (("dropped", both, one), ("added", one, both)):
        directory = RunDirectory(tmp_path / name)
        directory.claim(evidence_settings(first))
        directory.claim(evidence_settings(first))
        with pytest.raises(RunDirectoryError, match=r"\(data\.data_files\[1\] changed\)"):
            directory.claim(evidence_settings(second))


def test_settings_that_change_no_result_may_change(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.claim(evidence_settings(config_of(tmp_path)))
    directory.claim(
        evidence_settings(config_of(tmp_path, cache={"batch_size": 3, "n_splits": 2, "buffer_mib": 8}, device="cpu"))
    )


def test_foreign_and_damaged_directories(tmp_path: Path) -> None:
    config = config_of(tmp_path / "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="is a file"):
        RunDirectory(tmp_path / "file").claim(evidence_settings(config))
    with pytest.raises(RunDirectoryError, match="holds other files"):
        RunDirectory(tmp_path).claim(evidence_settings(config))
    directory = RunDirectory(tmp_path / "run")
    directory.claim(evidence_settings(config))
    directory.manifest.write_text('{"fingerprint": "x"')
    with pytest.raises(RunDirectoryError, match="is damaged"):
        directory.claim(evidence_settings(config))


def test_hub_addresses_are_pinned_once(tmp_path: Path) -> None:
    """What `main` means when the run begins is what it means until the run is done, hub or no hub."""
    (tmp_path / "served" / "a" / "b").mkdir(parents=True)
    config = parse_config({"model": "hf:a/b@v1", "autoencoders": ["hf:a/b/sub"]})
    directory = RunDirectory(tmp_path / "run")
    directory.claim(evidence_settings(config))
    with hub_server(tmp_path / "served", tmp_path / "cache"):
        assert directory.pinned("hf:a/b/sub") == f"hf:a/b/sub@{COMMIT}"
        assert directory.pinned("hf:a/b@v1") == f"hf:a/b@{COMMIT}"
    assert directory.pinned("hf:a/b/sub") == f"hf:a/b/sub@{COMMIT}", "the hub is gone"
    assert directory.pinned("a/model") == "a/model"
    directory.claim(evidence_settings(config))
    with pytest.raises(RunDirectoryError, match=r"autoencoders\[0\] changed"):
        directory.claim(evidence_settings(parse_config({"model": "hf:a/b@v1", "autoencoders": ["hf:a/b/sub@v2"]})))


def test_a_model_that_is_given_by_its_plain_id_is_pinned_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "served" / "a" / "model").mkdir(parents=True)
    config = parse_config({"model": "a/model", "autoencoders": ["hf:a/b"]})
    directory = RunDirectory(tmp_path / "run")
    directory.claim(evidence_settings(config))
    loaded: list[str] = []
    monkeypatch.setattr("sae_auto_interp.models.subject.load_subject_model", lambda ref, *_: loaded.append(ref))
    with hub_server(tmp_path / "served", tmp_path / "cache"):
        load_model(resolve_inputs(config).subject, directory.pinned)
    load_model(resolve_inputs(config).subject, directory.pinned)  # the hub is gone
    assert loaded == [f"hf:a/model@{COMMIT}"] * 2
    assert json.loads(directory.revisions.read_text()) == {"hf:a/model@main": f"hf:a/model@{COMMIT}"}
    load_model(
        resolve_inputs(parse_config({"model": str(tmp_path), "autoencoders": ["hf:a/b"]})).subject, directory.pinned
    )
    assert loaded[-1] == str(tmp_path)


@pytest.mark.parametrize(
    "content",
    ['{"hf:a/b": "hf:a/', '["hf:a/b"]', '{"hf:a/b": 3}', '{"hf:a/b": "elsewhere"}', '{"hf:a/b": "hf:a"}', "\xff"],
)
def test_damaged_revisions_are_said_to_be(tmp_path: Path, content: str) -> None:
    directory = RunDirectory(tmp_path)
    directory.revisions.write_bytes(content.encode("latin-1"))
    with pytest.raises(RunDirectoryError, match=r"revisions\.json is damaged .*; restore it, or choose another"):
        directory.pinned("hf:a/b")


def test_tokens_come_back_as_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 9, (3, 4)).astype(np.int32)
    rows = TokenRows(tokens, np.array([[0] * 4, [1] * 4, [1, 1, -1, -1]], np.int32), ("é 1", "b\nc"))
    directory = RunDirectory(tmp_path)
    with pytest.raises(CacheError, match="holds no tokens"):
        directory.load_tokens()
    directory.save_tokens(rows)
    back = directory.load_tokens()
    assert np.array_equal(back.tokens, rows.tokens)
    assert np.array_equal(back.documents, rows.documents)
    assert back.document_names == rows.document_names
    directory.tokens.write_bytes(directory.tokens.read_bytes()[:-5])
    with pytest.raises(CacheError, match="cannot be read"):
        directory.load_tokens()


def test_digests_see_content_and_names(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a").write_text("1")
    first = path_digest(str(tmp_path / "x"))
    (tmp_path / "x" / "a").rename(tmp_path / "x" / "b")
    assert first != path_digest(str(tmp_path / "x"))
    assert path_digest(str(tmp_path / "nothing")) is None
    assert path_digest("standard_library") is None
