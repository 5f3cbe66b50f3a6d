"""Nothing is written through a link that leads out of a run directory."""

from pathlib import Path

import pytest

from sae_auto_interp.errors import RunDirectoryError
from sae_auto_interp.pipeline.run_directory import RunDirectory, evidence_settings
from sae_auto_interp.pipeline.run_links import refuse_links_outside
from tests.pipeline.small_runs import configuration


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "run" / "features" / "m").mkdir(parents=True)
    return tmp_path / "run"


@pytest.mark.parametrize("name", ["triage", "log.jsonl", "results.sqlite", "features/m/manifest.json"])
@pytest.mark.parametrize("target", ["../../../outside", "/nowhere/at/all", "../../../outside/new"])
def test_a_link_out_of_it_is_refused(name: str, target: str, root: Path) -> None:
    (root / name).symlink_to(target)
    with pytest.raises(RunDirectoryError, match="leads out of the run directory") as caught:
        refuse_links_outside(root)
    assert str(root / name) in str(caught.value)


def test_links_that_stay_inside_and_a_linked_run_directory_are_fine(root: Path) -> None:
    (root / "triage").symlink_to("features")
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    refuse_links_outside(root)
    (root.parent / "linked").symlink_to("run")
    refuse_links_outside(root.parent / "linked")
    refuse_links_outside(root / "not there")


def test_a_run_does_not_begin_in_such_a_directory(root: Path) -> None:
    (root / "triage").symlink_to(root.parent / "outside")
    with pytest.raises(RunDirectoryError, match="leads out"):
        RunDirectory(root).claim(evidence_settings(configuration()))
