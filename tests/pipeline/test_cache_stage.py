"""The cache stage of a run with a norm mask: said, stored, and part of what a run directory belongs to."""

import json
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.cache.reader import CacheReader
from sae_auto_interp.config import RunConfig, parse_config
from sae_auto_interp.errors import RunDirectoryError
from sae_auto_interp.pipeline.cache_stage import run_cache_stage
from sae_auto_interp.pipeline.resolved import resolve_inputs
from sae_auto_interp.pipeline.run_directory import FIRST_DATA, RunDirectory, evidence_settings, with_digests
from tests.pipeline.test_token_rows import Notes


def config_of(**settings: Any) -> RunConfig:
    base: dict[str, Any] = {
        "model": "embedded:language_model",
        "autoencoders": ["embedded:sparse_coders/openai"],
        "data": {"n_tokens": 1000, "ctx_len": 64},
    }
    return parse_config(base | settings)


def test_a_run_says_and_stores_what_its_norm_mask_left_out(tmp_path: Path) -> None:
    config, directory, notes = config_of(cache={"max_norm_multiple": 1.5}), RunDirectory(tmp_path / "run"), Notes()
    directory.claim(evidence_settings(config))
    run_cache_stage(resolve_inputs(config), directory, notes)
    (module,) = json.loads((directory.features / "manifest.json").read_text())["modules"]
    reader = CacheReader(directory.features / module, verify=True)
    mask = reader.manifest.norm_mask
    assert mask is not None
    assert 0 < mask.n_positions == len(reader.masked_positions()) < directory.load_tokens().n_text_tokens
    said = f"{module}: {mask.n_positions:,} positions with a norm above 1.5 times the median of {mask.median_norm:.4g}"
    assert any(line.startswith(said) for line in notes.lines)
    assert not directory.unfinished.exists()
    with pytest.raises(RunDirectoryError, match=r"cache\.max_norm_multiple changed"):
        directory.claim(evidence_settings(config_of(cache={"max_norm_multiple": 2})))
    with pytest.raises(RunDirectoryError, match=r"cache\.max_norm_multiple changed"):
        directory.claim(evidence_settings(config_of()))


def test_run_directories_from_before_there_were_these_settings_go_on() -> None:
    settings = with_digests(evidence_settings(config_of()))["settings"]
    assert set(settings["data"]) == set(FIRST_DATA)
    assert settings["cache"] == {"activation_dtype": "float16"}
    changed = with_digests(evidence_settings(config_of(data={"packing": True, "mask_special_tokens": False})))[
        "settings"
    ]["data"]
    assert changed["packing"] is True
    assert changed["mask_special_tokens"] is False


def test_data_files_are_known_by_their_content(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.jsonl").write_text('{"text": "x"}')
    directory = RunDirectory(tmp_path / "run")
    one, moved = (
        config_of(data={"source": "hf:json", "data_files": str(tmp_path / folder / "*.jsonl")}) for folder in "ab"
    )
    directory.claim(evidence_settings(one))
    directory.claim(evidence_settings(moved))
    (tmp_path / "a" / "x.jsonl").write_text('{"text": "y"}')
    with pytest.raises(RunDirectoryError, match=r"data\.data_files\[0\] changed"):
        directory.claim(evidence_settings(one))
