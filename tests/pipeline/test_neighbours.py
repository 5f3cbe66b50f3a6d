"""The neighbours command: which weights and cache it goes by, what it refuses, and where it writes."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from sae_auto_interp.autoencoders.families import openai, saelens, sparsify
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights
from sae_auto_interp.cache.layout import MANIFEST, write_text
from sae_auto_interp.cache.reader import read_manifest
from sae_auto_interp.cli import app
from sae_auto_interp.config import resolve_path
from sae_auto_interp.errors import CacheError, InputError, UnknownNameError
from sae_auto_interp.features.neighbours import NeighbourKind, load_neighbours
from sae_auto_interp.features.neighbours.cosine import cosine_neighbours
from sae_auto_interp.models.identity import weights_sha256
from sae_auto_interp.pipeline.neighbours import NeighbourOptions, parse_features, run_neighbours
from sae_auto_interp.pipeline.progress.displays import make_progress
from sae_auto_interp.pipeline.run_directory import RunDirectory
from sae_auto_interp.types import FeatureId
from tests.support.records import make_rows, write_cache

CODERS = {
    "h.0.mlp": ("saelens", "mlp_0", saelens.read),
    "h.1": ("openai", "1.pt", openai.read),
    "h.2": ("sparsify", "h.2", sparsify.read),
}
ROWS = make_rows(12, 16)
"""Some padded: fewer text tokens than positions."""
FIRING = {3: 0, 5: 0, 7: 2}
"""Features that fire at every second position of each row, from this one on."""


def weights_of(family: str) -> Path:
    return Path(resolve_path(f"embedded:sparse_coders/{family}"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with hand-made activations of the embedded autoencoders. Its subject model does not exist."""
    root = tmp_path_factory.mktemp("run")
    entries = [
        (row, position, feature, 1.0)
        for row in range(ROWS.n_rows)
        for feature, first in FIRING.items()
        for position in range(first, ROWS.ctx_len, 2)
        if ROWS.documents[row, position] >= 0
    ]
    write_cache(root / "features", ROWS, dict.fromkeys(CODERS, entries), width=2048)
    for module, (family, name, read) in CODERS.items():
        directory = root / "features" / module
        checksum = weights_sha256(read(weights_of(family) / name))
        manifest = replace(read_manifest(directory), autoencoder=f"{family}:{name}", weights_sha256=checksum)
        write_text(directory / MANIFEST, manifest.to_json())
    RunDirectory(root).save_tokens(ROWS)
    places = [f"embedded:sparse_coders/{family}" for family, _, _ in CODERS.values()]
    (root / "config.yaml").write_text(yaml.safe_dump({"model": "nowhere", "autoencoders": places}))
    return root


@pytest.fixture
def run_dir(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def neighbours(root: Path, kind: NeighbourKind, features: str | None = None, **settings) -> list[Path]:
    chosen = None if features is None else parse_features(features)
    with make_progress() as progress:
        return run_neighbours(root, NeighbourOptions(kind=kind, **settings), progress, features=chosen)


def manifest_of(root: Path, module: str):
    return read_manifest(root / "features" / module)


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_directions_are_those_of_the_weights_that_were_cached(run_dir: Path, kind: NeighbourKind) -> None:
    paths = neighbours(run_dir, kind, "h.0.mlp:4, h.1:7, h.1:2, h.2:2047", n=5)
    assert paths == [run_dir / "neighbours" / module / f"{kind}.safetensors" for module in CODERS]
    for module, (family, name, read) in CODERS.items():
        coder = read(weights_of(family) / name)
        vectors = (coder.w_dec if kind == "decoder" else coder.w_enc).numpy()
        found = load_neighbours(run_dir / "neighbours", manifest_of(run_dir, module), kind)
        expected = cosine_neighbours(vectors, 5, features=found.features)
        assert np.array_equal(found.indices, expected[0])
        assert np.array_equal(found.values, expected[1])
    assert list(load_neighbours(run_dir / "neighbours", manifest_of(run_dir, "h.1"), kind).by_feature()) == [
        FeatureId("h.1", 7),
        FeatureId("h.1", 2),
    ]


def test_firing_together_is_counted_in_the_cache(run_dir: Path) -> None:
    neighbours(run_dir, "jaccard", n=3)
    for module in CODERS:
        found = load_neighbours(run_dir / "neighbours", manifest_of(run_dir, module), "jaccard").by_feature()
        assert len(found) == 2048
        assert found[FeatureId(module, 3)][0] == (FeatureId(module, 5), 1.0)
        assert found[FeatureId(module, 4)] == []


def test_pmi_counts_text_tokens_and_not_padding(run_dir: Path) -> None:
    neighbours(run_dir, "pmi", "h.1:3", n=1)
    (pair,) = load_neighbours(run_dir / "neighbours", manifest_of(run_dir, "h.1"), "pmi").by_feature().values()
    n_fired = int((ROWS.documents[:, ::2] >= 0).sum())
    assert pair[0] == (FeatureId("h.1", 5), pytest.approx(np.log(ROWS.n_text_tokens / n_fired)))


def test_a_cache_alone_gives_jaccard_but_no_pmi(run_dir: Path) -> None:
    """Without its run directory nothing says how much text there was."""
    cache = run_dir.with_name("cache")
    shutil.move(run_dir / "features", cache)
    assert neighbours(cache, "jaccard", "h.1:3", unit_tokens=16)[0].is_file()
    with pytest.raises(CacheError, match="keeps no tokens"):
        neighbours(cache, "pmi")
    with pytest.raises(InputError, match="no run file"):
        neighbours(cache, "decoder")
    assert neighbours(cache, "decoder", "h.1:3", weights=weights_of("openai"))[0].is_file()


def test_other_weights_under_the_same_name_are_refused(run_dir: Path, tmp_path: Path) -> None:
    coder = openai.read(weights_of("openai") / "1.pt")
    coder.w_dec[0, 0] += 1
    openai.save(tmp_path / "other" / "1.pt", CoderWeights(coder.w_enc, coder.b_enc, coder.w_dec, coder.b_dec), 12)
    with pytest.raises(InputError, match="weights changed since"):
        neighbours(run_dir, "decoder", "h.1:3", weights=tmp_path / "other")


def test_weights_that_are_not_there_are_named(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no openai autoencoder '1\.pt'"):
        neighbours(run_dir, "decoder", "h.1:3", weights=tmp_path)


def test_a_cache_of_unknown_weights_has_no_directions(run_dir: Path) -> None:
    directory = run_dir / "features" / "h.1"
    write_text(directory / MANIFEST, replace(read_manifest(directory), weights_sha256="").to_json())
    with pytest.raises(CacheError, match="does not say which weights"):
        neighbours(run_dir, "encoder", "h.1:3")


@pytest.mark.parametrize(
    ("kind", "settings", "error", "message"),
    [
        ("decoder", {"unit_tokens": 4}, InputError, "unit_tokens=4 means nothing for decoder"),
        ("encoder", {"min_count": 4}, InputError, "min_count=4 means nothing for encoder"),
        ("jaccard", {"weights": Path("w")}, InputError, "weights=w means nothing for jaccard"),
        ("jaccard", {"features": "h.3:1"}, UnknownNameError, "did you mean"),
        ("jaccard", {"features": "h.1:2048"}, InputError, "no feature 2048"),
        ("jaccard", {"features": "h.1"}, InputError, "write module_path:index"),
        ("jaccard", {"n": 0}, InputError, "n=0"),
    ],
)
def test_wrong_questions(
    finished: Path, kind: NeighbourKind, settings: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        neighbours(finished, kind, **settings)


def test_the_command(run_dir: Path, tmp_path: Path) -> None:
    arguments = ["neighbours", str(run_dir), "--kind", "jaccard", "--n", "2", "--features", "h.1:3"]
    done = CliRunner().invoke(
        app, [*arguments, "--unit-tokens", "16", "--min-count", "2", "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    found = load_neighbours(tmp_path / "out", manifest_of(run_dir, "h.1"), "jaccard")
    assert (found.indices.tolist(), found.unit_tokens, found.min_count) == ([[5, 7]], 16, 2)
