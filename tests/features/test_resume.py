"""Killed at any moment, caching goes on where it stopped, and ends with the same bytes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sae_auto_interp.cache.journal import JOURNAL
from sae_auto_interp.errors import CacheError
from sae_auto_interp.features import CacheOptions, FeatureCache
from sae_auto_interp.types import TokenRows
from tests.support.records import ONE_THREAD, directory_bytes, make_rows, tiny_world

ROOT = Path(__file__).resolve().parents[2]
SOAK = "SAE_AUTO_INTERP_SOAK"
"""Set to anything: every event and hundreds of moments are tried, in some minutes."""
STEP, MOMENTS = (1, 300) if os.environ.get(SOAK) else (5, 6)
STAGES = {
    "append to the pool",
    *(
        f"{kind} {stage}"
        for kind in ("write", "fsync", "rename")
        for stage in ("run", "shard", "statistics", "manifest")
    ),
    *(f"{kind} journal" for kind in ("write", "fsync", "rename", "line")),
    *(f"unlink {stage}" for stage in ("shard", "statistics", "manifest")),
}
"""All that can be interrupted: encoding, spilling, merging, the manifest, and taking an older cache away."""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked children")
def test_killed_or_out_of_disk_at_any_moment_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    script = Path(__file__).with_name("killed_runs.py")
    environment = os.environ | ONE_THREAD | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    arguments = [tmp_path, str(STEP), str(MOMENTS)]
    done = subprocess.run(
        [sys.executable, script, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["problems"] == []
    killed, full = (report["tried"][mode] for mode in ("kill", "full"))
    assert set(killed) == STAGES
    assert set(full) == {stage for stage in STAGES if stage.split()[0] in ("write", "fsync", "rename", "line")}
    assert len(killed) >= max(40, sum(report["counts"].values()) // STEP)


class StoppedError(Exception):
    pass


def stop_after(n: int) -> Any:
    class Stopping:
        n_left = n

        def note(self, text: str) -> None: ...

        def start(self, stage: str, total: int, done: int, unit: str) -> None:
            self.started_at = done

        def advance(self, n: int = 1, failed: int = 0) -> None:
            self.n_left -= 1
            if self.n_left == 0:
                raise StoppedError

        def finish(self) -> None: ...

    return Stopping()


@pytest.fixture(scope="module")
def world() -> tuple[Any, dict[str, Any]]:
    return tiny_world()


@pytest.fixture
def stopped(world: tuple[Any, dict[str, Any]], tmp_path: Path) -> tuple[TokenRows, CacheOptions]:
    """Two of four batches are done and journaled."""
    rows, options = make_rows(8, 8), CacheOptions(work_dir=tmp_path / "work", buffer_mib=0)
    with pytest.raises(StoppedError):
        FeatureCache(*world, batch_size=2, options=options, progress=stop_after(2)).run(tokens=rows)
    return rows, options


def test_progress_begins_with_what_is_done(
    world: tuple[Any, dict[str, Any]], stopped: tuple[TokenRows, CacheOptions]
) -> None:
    progress = stop_after(100)
    FeatureCache(*world, batch_size=2, options=stopped[1], progress=progress).run(tokens=stopped[0])
    assert (progress.started_at, 100 - progress.n_left) == (4 * 8, 2)


def test_a_finished_run_is_not_repeated(
    world: tuple[Any, dict[str, Any]], stopped: tuple[TokenRows, CacheOptions], tmp_path: Path
) -> None:
    rows, options = stopped
    for name, batches in (("a", 2), ("b", 0)):
        progress = stop_after(100)
        cache = FeatureCache(*world, batch_size=2, options=options, progress=progress)
        cache.run(tokens=rows)
        cache.save_splits(2, tmp_path / name)
        assert 100 - progress.n_left == batches
    assert directory_bytes(tmp_path / "a") == directory_bytes(tmp_path / "b")


def test_other_tokens_are_refused(world: tuple[Any, dict[str, Any]], stopped: tuple[TokenRows, CacheOptions]) -> None:
    rows, options = stopped
    before = directory_bytes(options.work_dir or Path())
    for tokens in (rows.tokens[:6], rows.tokens[::-1]):
        with pytest.raises(CacheError, match="work holds a half-finished cache of another configuration"):
            FeatureCache(*world, batch_size=2, options=options).run(tokens=tokens)
    assert directory_bytes(options.work_dir or Path()) == before


def test_a_lost_run_is_named(world: tuple[Any, dict[str, Any]], stopped: tuple[TokenRows, CacheOptions]) -> None:
    rows, options = stopped
    assert options.work_dir is not None
    (options.work_dir / "run00000.safetensors").unlink()
    with pytest.raises(CacheError, match=r"lost .*run00000\.safetensors"):
        FeatureCache(*world, batch_size=2, options=options).run(tokens=rows)


def test_other_buffers_may_finish_the_work(
    world: tuple[Any, dict[str, Any]], stopped: tuple[TokenRows, CacheOptions], tmp_path: Path
) -> None:
    rows, options = stopped
    resumed = FeatureCache(*world, batch_size=2, options=CacheOptions(work_dir=options.work_dir, buffer_mib=5))
    resumed.run(tokens=rows)
    resumed.save_splits(3, tmp_path / "resumed")
    assert len((tmp_path / "work" / JOURNAL).read_text().splitlines()) == 1 + 2 + 1
    whole = FeatureCache(*world, batch_size=2)
    whole.run(tokens=rows)
    whole.save_splits(3, tmp_path / "whole")
    assert directory_bytes(tmp_path / "resumed") == directory_bytes(tmp_path / "whole")
