"""What a run keeps of its check: refusals in words too, and nothing of an earlier check where it is switched off."""

import json
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.config import RunConfig, parse_config
from sae_auto_interp.errors import PreflightError
from sae_auto_interp.pipeline.cache_stage import run_cache_stage
from sae_auto_interp.pipeline.preflight_stage import stored_summary
from sae_auto_interp.pipeline.resolved import resolve_inputs
from sae_auto_interp.pipeline.run_directory import RunDirectory, evidence_settings
from tests.pipeline.test_token_rows import Notes


def misplaced(**preflight: Any) -> RunConfig:
    """A run whose autoencoder of block 2 reads block 1."""
    coder = {"path": "embedded:sparse_coders/sparsify", "site": "transformer.h.1:out"}
    return parse_config(
        {
            "model": "embedded:language_model",
            "autoencoders": [coder],
            "data": {"n_tokens": 1000, "ctx_len": 64},
            "preflight": {"n_tokens": 1000} | preflight,
        }
    )


def test_a_refused_check_is_kept_in_words_and_goes_when_the_check_is_switched_off(tmp_path: Path) -> None:
    directory, notes = RunDirectory(tmp_path / "run"), Notes()
    directory.claim(evidence_settings(misplaced()))
    with pytest.raises(PreflightError):
        run_cache_stage(resolve_inputs(misplaced()), directory, notes)
    assert "transformer.h.1: refused [site]" in (stored_summary(directory) or "")
    assert not [line for line in notes.lines if "refused" in line], "the error says it"
    unchecked = misplaced(enabled=False)
    directory.claim(evidence_settings(unchecked))
    run_cache_stage(resolve_inputs(unchecked), directory, notes)
    assert stored_summary(directory) is None
    assert json.loads(directory.manifest.read_text())["preflight"] == {"checked": False}
