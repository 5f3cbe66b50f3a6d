"""`loss-recovered` on the embedded model: its three autoencoders keep most of the loss."""

import json
from pathlib import Path

from tests.e2e.runs import sae_auto_interp, write_run_file

ALL = ", ".join(f"embedded:sparse_coders/{family}" for family in ("openai", "sparsify", "saelens"))


def test_the_embedded_autoencoders_keep_most_of_the_loss(tmp_path: Path) -> None:
    config = write_run_file(tmp_path, autoencoders=ALL)
    done = sae_auto_interp("loss-recovered", config, "--n-tokens", "2500", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert sorted(found) == ["transformer.h.0.mlp", "transformer.h.1", "transformer.h.2"]
    for estimates in found.values():
        clean, reconstruction, mean = (estimates[name]["value"] for name in ("clean", "reconstruction", "mean"))
        assert clean < reconstruction < mean
        recovered = estimates["recovered_from_mean"]
        assert 0.5 < recovered["low"] < recovered["value"] < recovered["high"] < 1
        assert abs(recovered["value"] - (mean - reconstruction) / (mean - clean)) < 1e-9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.yaml"], "nothing is stored"


def test_the_table_and_a_wrong_run_file(tmp_path: Path) -> None:
    done = sae_auto_interp("loss-recovered", write_run_file(tmp_path), "--n-tokens", "600")
    assert done.returncode == 0, done.stderr
    assert "transformer.h.1" in done.stdout
    assert "Recovered (mean)" in done.stdout
    wrong = sae_auto_interp("loss-recovered", tmp_path / "rnu.yaml")
    assert wrong.returncode == 2
    assert "there is no file" in wrong.stderr
