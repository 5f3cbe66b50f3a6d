"""Files of older layouts that are spoilt, or do not belong together, are named; none is read as if nothing were."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sae_auto_interp.cache.opening import open_caches
from sae_auto_interp.errors import CacheError
from sae_auto_interp.features import FeatureDataset
from tests.support.records import plain_rows, read_entries, write_cache

WRITTEN = Path(__file__).parent / "written_by_delphi"
EXPECTED = json.loads((WRITTEN / "expected.json").read_text())
TOKENS = np.array(EXPECTED["tokens"])
N_ROWS, CTX_LEN = TOKENS.shape
SMALL = ("layers.1", "layers.10")


def of_delphi(root: Path, modules: Sequence[str] = SMALL) -> Path:
    """A copy of delphi's files to spoil."""
    for module in modules:
        shutil.copytree(WRITTEN / "latents" / module, root / module)
    return root


def change(path: Path, **arrays: Any) -> None:
    """Replace arrays of a file; None takes one away."""
    changed = load_file(path) | arrays
    save_file({name: array for name, array in changed.items() if array is not None}, path)


def beyond(column: int, value: int) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        locations = load_file(path)["locations"].copy()
        locations[1, column] = value
        change(path, locations=locations)

    return spoil


def bad_value(value: float) -> Callable[[Path], None]:
    return lambda path: change(path, activations=np.where(np.arange(29) == 3, value, 1).astype(np.float16))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def repeated(path: Path) -> None:
    locations = load_file(path)["locations"].copy()
    locations[1] = locations[0]
    change(path, locations=locations)


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "feature": (beyond(2, 3), r"features 3\.\.6, its name says 3\.\.5"),
    "row": (beyond(0, N_ROWS), "row 0..8 of 8"),
    "position": (beyond(1, CTX_LEN), "position 0..12 of 12"),
    "twice": (repeated, "fires twice at one token"),
    "nan": (bad_value(np.nan), "1 of its activations are infinite or no number"),
    "infinite": (bad_value(np.inf), "float16 ends at 65504"),
    "truncated": (truncated, "cannot be read"),
    "tokens differ": (lambda path: change(path, tokens=TOKENS + 1), "its tokens are not those of 0_2"),
    "no activations": (lambda path: change(path, activations=None), "no array 'activations'"),
    "lengths": (lambda path: change(path, activations=np.ones(28, np.float16)), r"not \[n, 3\] and \[n\]"),
    "columns": (lambda path: change(path, locations=np.ones((29, 2), np.uint16)), r"not \[n, 3\] and \[n\]"),
    "type": (lambda path: change(path, locations=np.ones((29, 3), np.int16)), "of no known layout"),
    "value type": (lambda path: change(path, activations=np.ones(29, np.float64)), "of no known layout"),
    "token shape": (lambda path: change(path, tokens=np.ones(29, np.int64)), r"tokens \[29\], not \[rows, ctx_len\]"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_spoilt_shard_is_named(kind: str, tmp_path: Path) -> None:
    spoil, message = SPOILT[kind]
    root = of_delphi(tmp_path)
    spoil(root / "layers.1" / "3_5.safetensors")
    with pytest.raises(CacheError, match=rf"3_5\.safetensors .*{message}"):
        open_caches(root, verify=True)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: (d / "3_5.safetensors").unlink(), r"layers\.1 has no file with features 3\.\.5"),
        (lambda d: (d / "0_2.safetensors").unlink(), r"layers\.1 has no file with features 0\.\.2"),
        (lambda d: shutil.copy(d / "3_5.safetensors", d / "5_5.safetensors"), "two files with feature 5"),
        (lambda d: shutil.copy(d / "3_5.safetensors", d / "13_10.safetensors"), "is not named as shards are"),
        (lambda d: change(d / "0_2.safetensors", tokens=None), "different shapes of tokens"),
        (
            lambda d: change(d / "0_2.safetensors", activations=np.ones(19, np.float32)),
            "different types of activations",
        ),
        (lambda d: change(d / "0_2.safetensors", locations=np.ones((19, 3), np.int64)), "different layouts"),
        (lambda d: (d / "config.json").write_text("{"), "config.json is damaged"),
        (lambda d: (d / "config.json").write_text("3"), "config.json is damaged"),
    ],
)
def test_files_that_do_not_belong_together_are_named(
    spoil: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    root = of_delphi(tmp_path)
    spoil(root / "layers.1")
    with pytest.raises(CacheError, match=message):
        FeatureDataset(root)


def test_a_configuration_that_says_nonsense_is_named(tmp_path: Path) -> None:
    shutil.copytree(WRITTEN / "without_tokens", tmp_path / "c")
    (tmp_path / "c" / "layers.2" / "config.json").write_text('{"cache_ctx_len": "long"}')
    with pytest.raises(CacheError, match="rows have 'long' tokens"):
        FeatureDataset(tmp_path / "c")


def test_a_missing_configuration_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = of_delphi(tmp_path)
    (root / "layers.1" / "config.json").unlink()
    assert len(read_entries(open_caches(root)["layers.1"])) == len(EXPECTED["entries"]["layers.1"])
    assert "layers.1 has no config.json: whoever wrote it may have been interrupted" in caplog.text


def test_layouts_lie_side_by_side_and_what_is_unfinished_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = of_delphi(tmp_path)
    write_cache(root, plain_rows(N_ROWS, CTX_LEN), {name: [(0, 0, 1, 2.0)] for name in ("ours", "unfinished")})
    (root / "unfinished" / "manifest.json").unlink()
    assert list(open_caches(root)) == ["layers.1", "layers.10", "ours"]
    assert "unfinished is no finished cache" in caplog.text
    for module in (*SMALL, "ours"):
        shutil.rmtree(root / module)
    with pytest.raises(CacheError, match="holds no finished cache; run the cache stage first"):
        open_caches(root)


def test_a_modules_own_directory_is_told_from_the_one_above() -> None:
    with pytest.raises(CacheError, match="holds no finished cache, but a module's files; give the directory above"):
        FeatureDataset(WRITTEN / "latents" / "layers.1")
