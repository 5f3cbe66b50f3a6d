"""An activation function that is not computed here is refused by its name, in every family that can name one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file, save_file

from sae_auto_interp.autoencoders.families import (
    circuit_tracer,
    crosscoder,
    dictionary_learning,
    gemma_scope_2,
    llama_scope,
    openai,
    saelens,
    sparsify,
)
from sae_auto_interp.errors import WeightsError
from tests.autoencoders import families, families_dictionary_learning, families_scopes, families_single_files
from tests.autoencoders.families import random_weights

FLAT = {
    "d_in": 2, "d_sae": 2, "architecture": "standard", "apply_b_dec_to_input": False,
    "hook_name": "blocks.0.hook_mlp_out",
}  # fmt: skip
IN_VERSION_6 = {name: value for name, value in FLAT.items() if name != "hook_name"} | {"metadata": {"hook_name": "x"}}


def identity(folder: Path, config: dict[str, Any]) -> Path:
    """Two features that are the two dimensions."""
    eye, zeros = np.eye(2, dtype=np.float32), np.zeros(2, np.float32)
    save_file({"W_enc": eye, "W_dec": eye, "b_enc": zeros, "b_dec": zeros}, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("config", [FLAT, IN_VERSION_6])
@pytest.mark.parametrize("key", ["activation_fn_str", "activation_fn"])
@pytest.mark.parametrize("name", ["tanh-relu", "gelu", "SiLU", "batchtopk"])
def test_saelens_functions_that_are_not_known_are_refused(
    config: dict[str, Any], key: str, name: str, tmp_path: Path
) -> None:
    """tanh(relu(3)) is 0.995, and was read as 3."""
    with pytest.raises(WeightsError, match=f"activation_fn.* is '{name}', which is not computed here"):
        saelens.read(identity(tmp_path, config | {key: name}))


def test_it_may_be_said_among_the_metadata_too(tmp_path: Path) -> None:
    metadata = {"metadata": {"hook_name": "x", "activation_fn": "tanh-relu"}}
    with pytest.raises(WeightsError, match="'tanh-relu'"):
        saelens.read(identity(tmp_path, IN_VERSION_6 | metadata))


@pytest.mark.parametrize("config", [FLAT, IN_VERSION_6])
@pytest.mark.parametrize(
    "said", [{}, {"activation_fn": None}, {"activation_fn_str": "relu"}, {"activation_fn": "ReLU"}]
)
def test_a_relu_is_a_relu(config: dict[str, Any], said: dict[str, Any], tmp_path: Path) -> None:
    code = saelens.read(identity(tmp_path, config | said)).encode(torch.tensor([[3.0, -1.0]]))
    assert (code.features.tolist(), code.values.tolist()) == ([0], [3.0])


@pytest.mark.parametrize("config", [FLAT, IN_VERSION_6])
def test_top_k_as_a_function_keeps_k(config: dict[str, Any], tmp_path: Path) -> None:
    said = {"activation_fn": "topk", "activation_fn_kwargs": {"k": 1}}
    code = saelens.read(identity(tmp_path, config | said)).encode(torch.tensor([[3.0, 4.0]]))
    assert (code.features.tolist(), code.values.tolist()) == ([1], [4.0])


@pytest.mark.parametrize("architecture", ["gated", "jumprelu"])
def test_top_k_behind_another_architecture_is_refused(architecture: str, tmp_path: Path) -> None:
    said = {"architecture": architecture, "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 1}}
    with pytest.raises(WeightsError, match="activation_fn is 'topk'"):
        saelens.read(identity(tmp_path, FLAT | said))


def _openai(folder: Path) -> None:
    file = families.openai_relu(folder, random_weights()).path
    torch.save(torch.load(file, weights_only=True) | {"activation": "GELU"}, file)
    openai.read(file)


def _sparsify(folder: Path) -> None:
    directory = families.sparsify(folder, random_weights()).path
    _with(directory / "cfg.json", {"activation": "gelu"})
    sparsify.read(directory)


def _dictionary_learning(folder: Path) -> None:
    directory = families_dictionary_learning.auto_encoder(folder, random_weights()).path
    config = json.loads((directory / "config.json").read_text())
    config["trainer"]["activation_fn"] = "gelu"
    (directory / "config.json").write_text(json.dumps(config))
    dictionary_learning.read(directory)


def _gemma_scope_2(folder: Path) -> None:
    gemma_scope_2.read(families_scopes.gemma_scope_2(folder, random_weights(), activation_fn="gelu").path)


def _llama_scope(folder: Path) -> None:
    llama_scope.read(families_scopes.llama_scope(folder, random_weights(), act_fn="gelu").path)


def _llama_scope_by_another_key(folder: Path) -> None:
    llama_scope.read(families_scopes.llama_scope(folder, random_weights(), activation_fn="gelu").path)


def _circuit_tracer(folder: Path) -> None:
    config = families_single_files.CONFIG | {"activation_function": "gelu"}
    circuit_tracer.read(families_single_files.per_layer_transcoder(folder, random_weights(), config).path)


def _circuit_tracer_by_its_tensors(folder: Path) -> None:
    file = families_single_files.jump_relu_transcoder(folder, random_weights()).path
    (folder / "config.yaml").write_text(yaml.safe_dump(families_single_files.CONFIG))
    save_file(load_file(file) | {"activation_function.gelu_scale": np.ones(1, np.float32)}, file)
    circuit_tracer.read(file)


def _crosscoder(folder: Path) -> None:
    directory = families_single_files.crosscoder(folder, random_weights()).path
    _with(directory / "cfg.json", {"activation": "gelu"})
    crosscoder.read(directory)


def _with(file: Path, fields: dict[str, Any]) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.mark.parametrize(
    "read_with_gelu",
    [
        _openai, _sparsify, _dictionary_learning, _gemma_scope_2, _llama_scope, _llama_scope_by_another_key,
        _circuit_tracer, _circuit_tracer_by_its_tensors, _crosscoder,
    ],
)  # fmt: skip
def test_no_family_reads_another_function_as_its_own(read_with_gelu: Callable[[Path], None], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"(?i)gelu"):
        read_with_gelu(tmp_path)
