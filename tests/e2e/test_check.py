"""The check on the command line and before caching: what passes, what is refused, how a refusal is overridden."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from sae_auto_interp.config import resolve_path
from tests.e2e.runs import sae_auto_interp, write_run_file

SPARSIFY = "embedded:sparse_coders/sparsify"
WRONG = "{path: 'embedded:sparse_coders/sparsify', site: 'transformer.h.1:out'}"
RIGHT = "{path: 'embedded:sparse_coders/sparsify', site: 'transformer.h.2:out'}"


def manifest_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "manifest.json").read_text())


def test_the_embedded_autoencoders_pass_and_are_shown(tmp_path: Path) -> None:
    run_file = write_run_file(tmp_path, autoencoders=SPARSIFY, checked=True)
    done = sae_auto_interp("check", run_file, "--n-tokens", "1000")
    assert done.returncode == 0, done.stderr
    assert "transformer.h.2:out" in done.stdout
    assert "fits" in done.stdout
    same = sae_auto_interp(
        "check", "--model", "embedded:language_model", "--autoencoders", SPARSIFY, "--n-tokens", "1000", "--json"
    )
    assert same.returncode == 0, same.stderr
    (found,) = json.loads(same.stdout)
    assert found["module_path"] == "transformer.h.2"
    assert 0 < found["figures"]["fvu"] < 0.2
    assert found["findings"] == []


def test_each_refused_autoencoder_has_a_message(tmp_path: Path) -> None:
    """Damaged weights of one do not hide what is wrong with another."""
    damaged = tmp_path / "damaged" / "h.0"
    damaged.mkdir(parents=True)
    source = Path(resolve_path(SPARSIFY)) / "h.2"
    (damaged / "cfg.json").write_text((source / "cfg.json").read_text())
    weights = load_file(source / "sae.safetensors")
    weights["encoder.weight"][3, 4] = torch.nan
    save_file(weights, damaged / "sae.safetensors")
    run_file = write_run_file(tmp_path, autoencoders=f"{WRONG}, {damaged.parent}", checked=True)
    done = sae_auto_interp("check", run_file, "--n-tokens", "1000")
    assert done.returncode == 2
    messages = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(messages) == 2
    assert "transformer.h.1 does not fit" in messages[0]
    assert "transformer.h.2:out" in messages[0]
    assert "--allow site" in messages[0]
    assert "encoder.weight" in messages[1] or "w_enc holds NaN" in messages[1]
    assert "--allow" not in messages[1]


def test_a_refused_run_is_mended_in_the_same_directory(tmp_path: Path) -> None:
    out = tmp_path / "run"
    wrong = write_run_file(tmp_path, autoencoders=WRONG, n_tokens=2000, checked=True)
    refused = sae_auto_interp("cache", wrong, "--out", out)
    assert refused.returncode == 2
    assert "[site]" in refused.stderr
    assert json.loads((out / "preflight.json").read_text())["refused"]
    assert not (out / "features").exists()
    mended = write_run_file(tmp_path, autoencoders=RIGHT, n_tokens=2000, checked=True)
    assert sae_auto_interp("cache", mended, "--out", out).returncode == 0
    assert manifest_of(out)["preflight"] == {"checked": True, "allowed": {}}
    again = sae_auto_interp("cache", mended, "--out", out)
    assert again.returncode == 0
    assert "checking" not in again.stderr
    wrong = write_run_file(tmp_path, autoencoders=WRONG, n_tokens=2000, checked=True)
    other = sae_auto_interp("cache", wrong, "--out", out)
    assert other.returncode == 2
    assert "belongs to another configuration" in other.stderr


def test_an_override_is_recorded(tmp_path: Path) -> None:
    run_file = write_run_file(tmp_path, autoencoders=WRONG, n_tokens=2000, checked=True)
    allowed = sae_auto_interp("cache", run_file, "--out", tmp_path / "allowed", "--allow", "site")
    assert allowed.returncode == 0
    assert "allowed [site]" in allowed.stderr
    assert manifest_of(tmp_path / "allowed")["preflight"]["allowed"] == {"transformer.h.1": ["site"]}
    assert "site" in (tmp_path / "allowed" / "config.yaml").read_text()
    skipped = sae_auto_interp("cache", run_file, "--out", tmp_path / "skipped", "--skip-check")
    assert skipped.returncode == 0
    assert manifest_of(tmp_path / "skipped")["preflight"] == {"checked": False}


def test_mistakes_on_the_command_line(tmp_path: Path) -> None:
    run_file = write_run_file(tmp_path, checked=True)
    unknown = sae_auto_interp("check", run_file, "--allow", "fvx")
    assert unknown.returncode == 2
    assert "unknown refusal to allow 'fvx'; did you mean 'fvu'" in unknown.stderr
    both = sae_auto_interp("check", run_file, "--model", "x")
    assert both.returncode == 2
    assert "not both" in both.stderr
    neither = sae_auto_interp("check")
    assert neither.returncode == 2
    assert "give a run file, or --model and --autoencoders" in neither.stderr
