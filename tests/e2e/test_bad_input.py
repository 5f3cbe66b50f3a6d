"""A user's mistake ends in one clear line and exit status 2, and loses nothing."""

import shutil
from pathlib import Path

import pytest
import torch

from sae_auto_interp.autoencoders.families import openai
from sae_auto_interp.autoencoders.sparse_coder import CoderWeights
from tests.e2e.runs import sae_auto_interp, write_run_file

ASSETS = Path(__file__).parents[2] / "src" / "sae_auto_interp" / "assets" / "sparse_coders"


def complaint(*arguments: str | Path, largest_file: int | None = None) -> str:
    """The one line that a failing command says."""
    done = sae_auto_interp(*arguments, largest_file=largest_file)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert done.stderr.splitlines()[-1] == errors[0]
    return errors[0]


def test_unknown_module_path_names_the_nearest(tmp_path: Path) -> None:
    shutil.copytree(ASSETS / "sparsify" / "h.2", tmp_path / "coders" / "h.22")
    said = complaint("run", write_run_file(tmp_path, autoencoders=str(tmp_path / "coders")), "--out", tmp_path / "run")
    assert "unknown module path 'h.22'; did you mean 'transformer.h.2'?" in said


def test_weights_of_another_width(tmp_path: Path) -> None:
    weights = CoderWeights(torch.randn(64, 100), torch.zeros(64), torch.randn(64, 100), torch.zeros(100))
    openai.save(tmp_path / "coders" / "1.pt", weights, k=4)
    said = complaint("run", write_run_file(tmp_path, autoencoders=str(tmp_path / "coders")), "--out", tmp_path / "run")
    assert "1.pt reads 100 dimensions, but transformer.h.1:out of this model has 128" in said


def test_missing_directory(tmp_path: Path) -> None:
    said = complaint("run", write_run_file(tmp_path, autoencoders="/nowhere/coders"), "--out", tmp_path / "run")
    assert "there is no file or directory /nowhere/coders" in said


def test_run_directory_of_another_configuration(tmp_path: Path) -> None:
    run_file = write_run_file(tmp_path, n_tokens=2_000)
    assert sae_auto_interp("cache", run_file, "--out", tmp_path / "run").returncode == 0
    said = complaint("cache", write_run_file(tmp_path, n_tokens=3_000), "--out", tmp_path / "run")
    assert "belongs to another configuration (data.n_tokens changed)" in said
    assert sae_auto_interp("cache", write_run_file(tmp_path, n_tokens=2_000), "--out", tmp_path / "run").returncode == 0


def test_unreachable_endpoint(tmp_path: Path) -> None:
    client = "client: {base_url: 'http://127.0.0.1:9/v1', attempts: 1}\n"
    said = complaint("run", write_run_file(tmp_path, "simple", more=client), "--out", tmp_path / "run")
    assert "http://127.0.0.1:9/v1" in said
    assert "is the server running?" in said


def test_an_endpoint_that_failed_is_not_kept(tmp_path: Path) -> None:
    assert sae_auto_interp("run", write_run_file(tmp_path), "--out", tmp_path / "run").returncode == 0
    assert "is the server running?" in complaint("score", tmp_path / "run", "--base-url", "http://127.0.0.1:9/v1")
    assert sae_auto_interp("score", tmp_path / "run").returncode == 0


def test_a_language_model_explainer_without_an_endpoint(tmp_path: Path) -> None:
    said = complaint("run", write_run_file(tmp_path, "simple"), "--out", tmp_path / "run")
    assert "explainers.simple needs a language model" in said


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("seeed: 3\n", "unknown setting in {file} 'seeed'; did you mean 'seed'?"),
        ("seed: -1\n", "seed: Input should be greater than or equal to 0"),
        ("scorers: [detektion]\n", "unknown scorer 'detektion'; did you mean 'detection'?"),
        (
            "scorers: [{name: detection, n_show: 3}]\n",
            "unknown setting of scorers.detection 'n_show'; did you mean 'n_shown'?",
        ),
        ("scorers: [{name: detection, n_shown: many}]\n", "scorers.detection.n_shown: Input should be a valid integer"),
        ("seed: [\n", "is not valid YAML"),
    ],
)
def test_wrong_settings(line: str, expected: str, tmp_path: Path) -> None:
    path = write_run_file(tmp_path, more=line)
    assert expected.format(file=path) in complaint("run", path, "--out", tmp_path / "run")
    assert not (tmp_path / "run" / "features").exists()


def test_missing_run_file_and_foreign_directories(tmp_path: Path) -> None:
    assert "there is no file" in complaint("run", tmp_path / "none.yaml")
    assert "is not a run directory" in complaint("score", tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    assert "is no run directory" in complaint("run", write_run_file(tmp_path), "--out", tmp_path / "full")
    assert "--model needs --base-url" in complaint("demo", "--out", tmp_path / "run", "--model", "x")


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    run_file = write_run_file(tmp_path, n_tokens=4_000)
    sae_auto_interp("cache", run_file, "--out", tmp_path / "run")
    shard = next((tmp_path / "run" / "features" / "transformer.h.1").glob("0_*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 0xFF
    shard.write_bytes(content)
    assert f"{shard} is damaged" in complaint("explain", tmp_path / "run")


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    arguments = ("cache", write_run_file(tmp_path), "--out", tmp_path / "run")
    said = complaint(*arguments, largest_file=200 * 1024)
    assert "cannot be written" in said
    assert "run the same command again" in said
    again = sae_auto_interp(*arguments)
    assert again.returncode == 0, again.stderr


def test_misspelt_option() -> None:
    assert "No such option" in complaint("demo", "--featuress", "3")
