"""A subject model that cannot be used as asked: one line and exit status 2 from every command that reads it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.e2e.runs import sae_auto_interp
from tests.e2e.test_bad_input import complaint
from tests.support.embedded_gguf import embedded_language_model

NEURONS = "autoencoders: [{kind: neurons, module_paths: ['h.1.mlp.c_proj:in'], k: 16}]\n"


def run_file(folder: Path, model: str | Path = "embedded:language_model", data: str = "n_tokens: 2000") -> Path:
    path = folder / "run.yaml"
    path.write_text(f"model: {model}\ndevice: cpu\n{NEURONS}data: {{{data}}}\n")
    return path


@pytest.mark.parametrize("command", ["plan", "check", "cache", "run"])
def test_rows_beyond_the_models_positions(command: str, tmp_path: Path) -> None:
    file = run_file(tmp_path, data="n_tokens: 2000, ctx_len: 256")
    out = ["--out", tmp_path / "run"] if command in ("cache", "run") else []
    said = complaint(command, file, *out)
    assert "data.ctx_len: 256 is more than the model's 128 positions; give at most that" in said
    assert not (tmp_path / "run" / "tokens.safetensors").exists()


def test_given_rows_beyond_the_models_positions(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.ones((40, 200), np.int32))
    file = run_file(tmp_path, data=f"source: {tmp_path}/rows.npy, ctx_len: 200, n_tokens: 2000")
    assert "data.ctx_len: 200 is more than the model's 128" in complaint("cache", file, "--out", tmp_path / "run")


def test_rotary_positions_beyond_training_are_warned_of(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=4096, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "lm")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(embedded_language_model() / name, tmp_path / "lm")
    coders = "autoencoders: [{kind: neurons, module_paths: ['layers.1.mlp.down_proj:in'], k: 4}]\n"
    file = tmp_path / "run.yaml"
    file.write_text(f"model: {tmp_path}/lm\ndevice: cpu\n{coders}data: {{n_tokens: 10000, ctx_len: 64}}\n")
    warning = "data.ctx_len: 64 is more than the 32 positions that the model was trained for"
    for command, out in (("plan", []), ("check", []), ("cache", ["--out", tmp_path / "run"])):
        done = sae_auto_interp(command, file, *out)
        assert done.returncode == 0, done.stderr
        assert warning in done.stderr, command


def test_a_checkpoint_below_a_prefix_is_refused_and_nothing_is_cached(tmp_path: Path) -> None:
    shutil.copytree(embedded_language_model(), tmp_path / "lm")
    file = tmp_path / "lm" / "model.safetensors"
    save_file({f"module.{name}": value for name, value in load_file(file).items()}, file, metadata={"format": "pt"})
    said = complaint("cache", run_file(tmp_path, tmp_path / "lm"), "--out", tmp_path / "run")
    assert "lacks 52 of its 52 tensors" in said
    assert "all begin with 'module.'" in said
    assert not (tmp_path / "run" / "features").exists()


def test_a_model_that_brings_its_own_code_is_refused_without_a_question(tmp_path: Path) -> None:
    shutil.copytree(embedded_language_model(), tmp_path / "lm")
    config = json.loads((tmp_path / "lm" / "config.json").read_text())
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (tmp_path / "lm" / "config.json").write_text(json.dumps(config | own))
    (tmp_path / "lm" / "own.py").write_text("raise SystemExit('own code ran')\n")
    for command, out in (("plan", []), ("cache", ["--out", tmp_path / "run"])):
        said = complaint(command, run_file(tmp_path, tmp_path / "lm"), *out)
        assert "needs code of its own, which is never run here (trust_remote_code is off)" in said


def test_bos_that_the_tokenizer_lacks_names_the_setting(tmp_path: Path) -> None:
    shutil.copytree(embedded_language_model(), tmp_path / "lm")
    config = json.loads((tmp_path / "lm" / "tokenizer_config.json").read_text())
    del config["bos_token"]
    (tmp_path / "lm" / "tokenizer_config.json").write_text(json.dumps(config))
    said = complaint("check", run_file(tmp_path, tmp_path / "lm", "n_tokens: 2000, prepend_bos: true"))
    assert "set data.prepend_bos: false" in said
