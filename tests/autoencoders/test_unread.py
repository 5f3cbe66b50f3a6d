"""What lies in the files beside what is read: tensors of another kind of autoencoder, sizes that the weights do not
have, words where yes or no belongs. Each was passed over once, and gave codes of another autoencoder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sae_auto_interp.autoencoders.families import (
    circuit_tracer,
    crosscoder,
    dictionary_learning,
    gemma_scope,
    gemma_scope_2,
    llama_scope,
    openai,
    qwen_scope,
    saelens,
    sparsify,
)
from sae_auto_interp.errors import WeightsError
from tests.autoencoders import families, families_dictionary_learning, families_scopes, families_single_files
from tests.autoencoders.families import D_IN, WIDTH, random_weights
from tests.support.weights import replace_file

dl = families_dictionary_learning
VECTOR, MATRIX = np.ones(WIDTH, np.float32), np.eye(D_IN, dtype=np.float32)


def add(folder: Path, **tensors: Any) -> None:
    """Put further tensors into the one file of weights below a folder."""
    (file,) = [p for p in folder.rglob("*") if p.suffix in (".safetensors", ".pt", ".npz")]
    if file.suffix == ".safetensors":
        added = {name: torch.from_numpy(value).clone() for name, value in tensors.items()}
        replace_file({**load_file(file), **added}, file)
    elif file.suffix == ".npz":
        with np.load(file) as arrays:
            found = dict(arrays)
        np.savez(file, **{**found, **tensors})
    else:
        state: dict[str, Any] = torch.load(file, weights_only=True)
        torch.save({**state, **{name: torch.from_numpy(value) for name, value in tensors.items()}}, file)


@pytest.mark.parametrize(
    ("write", "read", "tensors"),
    [
        (families.saelens_standard, saelens.read, {"threshold": VECTOR}),
        (families.saelens_standard, saelens.read, {"b_gate": VECTOR, "r_mag": VECTOR, "b_mag": VECTOR}),
        (families.saelens_standard, saelens.read, {"W_skip": MATRIX}),
        (families.saelens_jumprelu, saelens.read, {"log_threshold": VECTOR}),
        (families.sparsify, sparsify.read, {"W_skip": MATRIX}),
        (families.sparsify, sparsify.read, {"threshold": VECTOR}),
        (families.openai_topk, openai.read, {"threshold": VECTOR}),
        (families_scopes.gemma_scope, gemma_scope.read, {"log_threshold": VECTOR}),
        (families_scopes.gemma_scope_2, gemma_scope_2.read, {"r_mag": VECTOR}),
        (families_scopes.llama_scope, llama_scope.read, {"b_E_glu": VECTOR}),
        (families_scopes.qwen_scope, qwen_scope.read, {"threshold": VECTOR}),
        (families_single_files.per_layer_transcoder, circuit_tracer.read, {"b_gate": VECTOR}),
        (families_single_files.crosscoder, crosscoder.read, {"threshold": VECTOR}),
    ],
)
def test_tensors_of_another_kind_of_autoencoder_are_refused_by_name(
    write: Callable[..., Any], read: Callable[[Path], Any], tensors: dict[str, Any], tmp_path: Path
) -> None:
    written = write(tmp_path, random_weights())
    read(written.path)
    add(tmp_path, **tensors)
    with pytest.raises(WeightsError, match=f"holds {', '.join(sorted(tensors))}, which what its configuration names"):
        read(written.path)


@pytest.mark.parametrize(
    ("dict_class", "state", "message"),
    [
        ("AutoEncoder", {"threshold": torch.ones(())}, "holds threshold, which"),
        ("AutoEncoder", {"r_mag": torch.ones(WIDTH)}, "holds r_mag, which"),
        ("AutoEncoder", {"encoder.bias": None}, "no tensor 'encoder.bias'"),
        ("AutoEncoder", {"bias": torch.ones(1, D_IN)}, ""),
    ],
)
def test_the_tensors_of_a_dictionary_are_those_of_its_class(
    dict_class: str, state: dict[str, Any], message: str, tmp_path: Path
) -> None:
    whole = {**dl.linear(random_weights(), "bias"), **state}
    saved = {name: value for name, value in whole.items() if value is not None}
    path = dl.write(tmp_path, saved, dl.config(dict_class))
    if not message:
        assert dictionary_learning.read(path).b_dec.tolist() == [1] * D_IN
        return
    with pytest.raises(WeightsError, match=message):
        dictionary_learning.read(path)


@pytest.mark.parametrize(("key", "stated"), [("activation_dim", D_IN + 1), ("dict_size", D_IN), ("dict_size", "40")])
def test_a_dictionary_of_another_size_than_it_says(key: str, stated: Any, tmp_path: Path) -> None:
    path = dl.write(tmp_path, dl.linear(random_weights(), "bias"), dl.config("AutoEncoder", **{key: stated}))
    with pytest.raises(WeightsError, match=f"{key} is {stated!r}, but the weights beside it have"):
        dictionary_learning.read(path)


@pytest.mark.parametrize("sizes", [[-1, WIDTH + 1], [[WIDTH]], [float(WIDTH)]])
def test_groups_that_are_none(sizes: Any, tmp_path: Path) -> None:
    state = dl.matrices(random_weights()) | {
        "k": torch.tensor(4), "threshold": torch.tensor(0.5), "group_sizes": torch.tensor(sizes),
    }  # fmt: skip
    path = dl.write(tmp_path, state, dl.config("MatryoshkaBatchTopKSAE"))
    with pytest.raises(WeightsError, match="'group_sizes' does not add up"):
        dictionary_learning.read(path)


@pytest.mark.parametrize("sizes", [{"d_in": WIDTH, "d_sae": D_IN}, {"d_sae": WIDTH + 1}, {"d_in": None, "d_sae": True}])
def test_a_saelens_coder_of_another_size_than_it_says(sizes: dict[str, Any], tmp_path: Path) -> None:
    """Matrices and vectors that are all transposed have shapes that agree with each other."""
    path = families.write_saelens(tmp_path, random_weights(), families.saelens_config(**sizes))
    with pytest.raises(WeightsError, match="but the weights beside it have"):
        saelens.read(path)


NO = ["false", "no", 0, 1, []]


@pytest.mark.parametrize("value", NO)
@pytest.mark.parametrize("key", ["apply_b_dec_to_input", "rescale_acts_by_decoder_norm", "prepend_bos"])
def test_yes_and_no_of_saelens_are_no_words(key: str, value: Any, tmp_path: Path) -> None:
    """`bool("false")` is True, which subtracts a bias that is not to be subtracted."""
    fields: dict[str, Any] = {"metadata": {key: value}} if key == "prepend_bos" else {key: value}
    path = families.write_saelens(tmp_path, random_weights(), families.saelens_config(**fields))
    with pytest.raises(WeightsError, match=f"'{key}' is .*, but must be true or false"):
        saelens.read(path)


def test_centring_of_saelens_is_no_word(tmp_path: Path) -> None:
    kwargs = {"model_from_pretrained_kwargs": {"center_writing_weights": "false"}}
    path = families.write_saelens(tmp_path, random_weights(), families.saelens_config(metadata=kwargs))
    with pytest.raises(WeightsError, match="'center_writing_weights' is 'false', but must be true or false"):
        saelens.read(path)


def test_an_input_bias_of_null_is_saelens_own_no(tmp_path: Path) -> None:
    path = families.write_saelens(tmp_path, random_weights(), families.saelens_config(apply_b_dec_to_input=None))
    assert not saelens.read(path).settings.subtract_b_dec


@pytest.mark.parametrize("value", NO)
@pytest.mark.parametrize("key", ["transcode", "signed", "skip_connection"])
def test_yes_and_no_of_sparsify_are_no_words(key: str, value: Any, tmp_path: Path) -> None:
    path = families.sparsify(tmp_path, random_weights()).path
    config = json.loads((path / "cfg.json").read_text())
    (path / "cfg.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(WeightsError, match=f"'{key}' is .*, but must be true or false"):
        sparsify.read(path)


@pytest.mark.parametrize("value", NO)
@pytest.mark.parametrize(
    "key", ["sparsity_include_decoder_norm", "use_decoder_bias", "apply_decoder_bias_to_pre_encoder", "use_glu_encoder"]
)
def test_yes_and_no_of_lm_saes_are_no_words(key: str, value: Any, tmp_path: Path) -> None:
    path = families_scopes.llama_scope(tmp_path, random_weights(), **{key: value}).path
    with pytest.raises(WeightsError, match=f"'{key}' is .*, but must be true or false"):
        llama_scope.read(path)


def test_saved_thresholds_beside_a_relu_are_refused(tmp_path: Path) -> None:
    path = families_scopes.llama_scope_r1(tmp_path, random_weights()).path
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"act_fn": "relu"}))
    with pytest.raises(WeightsError, match="log_jumprelu_threshold, which what its configuration names does not have"):
        llama_scope.read(path)
