"""`config` prints run files that say everything and mean what they did; presets are run files that work."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from sae_auto_interp.config import RunConfig, load_config, parse_config
from sae_auto_interp.config.presets import load_preset, preset_names
from sae_auto_interp.errors import UnknownNameError
from sae_auto_interp.pipeline.commands.config_file import REQUIRED, commented_run_file, component_settings
from sae_auto_interp.pipeline.resolved import resolve, resolve_records
from sae_auto_interp.registry import component_names
from tests.e2e.runs import sae_auto_interp

LEAST: dict[str, Any] = {"model": "m", "autoencoders": ["a"]}
CLIENT: dict[str, Any] = {"client": {"base_url": "http://127.0.0.1:1/v1"}}


def meaning(config: RunConfig) -> dict[str, Any]:
    """A configuration with what its records' settings default to."""
    return config.model_dump() | {
        "features": [config.features.n_features, resolve_records(config.features, config.seed)]
    }


@pytest.mark.parametrize("content", [{}, CLIENT, {"features": {"n_test": 70}}, {"autoencoders": ["a", {"path": "b"}]}])
def test_a_commented_run_file_means_the_same(content: dict[str, Any]) -> None:
    printed = yaml.safe_load(commented_run_file(LEAST | content))
    assert meaning(parse_config(printed)) == meaning(parse_config(LEAST | content))


def test_every_setting_is_there_and_explained() -> None:
    lines = commented_run_file(LEAST | CLIENT).splitlines()
    parts = {"data:", "preflight:", "cache:", "features:", "client:"}
    for before, line in pairwise(lines):
        is_setting = line and not line.lstrip().startswith(("#", "-"))
        assert not is_setting or line in parts or before.lstrip().startswith("#"), f"{line!r} has no comment"
    printed = yaml.safe_load("\n".join(lines))
    assert set(printed) == set(RunConfig.model_fields)


def test_what_is_missing_is_marked() -> None:
    assert f"model: {REQUIRED!r}" in commented_run_file({}) or f"model: {REQUIRED}" in commented_run_file({})


def test_all_components_are_listed() -> None:
    listed = component_settings()
    for folder in ("explainers", "scorers", "judges"):
        assert all(f"#   {name}: " in listed for name in component_names(folder))
    assert "threshold: 0.3  # Fraction" in listed


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_is_a_run_that_can_be_made(name: str) -> None:
    config = parse_config(LEAST | CLIENT | {"preset": name})
    resolve(config)
    assert meaning(parse_config(LEAST | load_preset(name))) == meaning(parse_config(LEAST | {"preset": name}))


def test_presets_are_those_that_are_promised() -> None:
    assert preset_names() == ["delphi", "paper", "quick", "saebench"]
    with pytest.raises(UnknownNameError, match="did you mean 'delphi'"):
        parse_config(LEAST | {"preset": "delphy"})


def test_what_a_run_file_says_goes_before_its_preset() -> None:
    given = {"preset": "delphi", "features": {"n_test": 20}, "scorers": ["fuzzing"]}
    config = parse_config(LEAST | given)
    assert (
        resolve_records(config.features, config.seed).config.n_test,
        resolve_records(config.features, config.seed).config.min_examples,
    ) == (20, 200)
    assert [scorer.name for scorer in config.scorers] == ["fuzzing"]


def test_the_command(tmp_path: Path) -> None:
    printed = sae_auto_interp("config", "--preset", "quick")
    assert printed.returncode == 0, printed.stderr
    (tmp_path / "run.yaml").write_text(printed.stdout.replace(REQUIRED, "m"))
    assert load_config(tmp_path / "run.yaml").features.n_features == 5
