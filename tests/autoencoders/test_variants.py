"""Settings of a family that are not read are refused by name: wrong numbers without a word would be worse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from sae_auto_interp.autoencoders.families import openai, saelens, sparsify
from sae_auto_interp.autoencoders.families.saelens_config import Overrides
from sae_auto_interp.errors import WeightsError
from tests.autoencoders import families
from tests.autoencoders.families import D_IN, WIDTH, random_weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "Identity"}, "activation is 'Identity'"),
        ({"activation": None}, "activation is None"),
        ({"activation_state_dict": {}}, "'k' is None"),
        ({"activation_state_dict": None}, "'k' is None"),
        ({"activation_state_dict": {"k": 0}}, "k=0 does not fit a width of 40"),
        ({"activation_state_dict": {"k": 41}}, "k=41 does not fit a width of 40"),
        (
            {"activation_state_dict": {"k": 5, "postact_fn": "Identity"}},
            "postact_fn='Identity' would let negative values through",
        ),
    ],
)
def test_openai_settings_that_are_not_understood_are_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    file = families.openai_topk(tmp_path, random_weights()).path
    torch.save(torch.load(file, weights_only=True) | change, file)
    with pytest.raises(WeightsError, match=message):
        openai.read(file)


def reconfigured(directory: Path, **fields: Any) -> None:
    config = json.loads((directory / "cfg.json").read_text())
    (directory / "cfg.json").write_text(json.dumps(config | fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"activation": "relu"}, "activation is 'relu'; sparsify has topk, groupmax"),
        ({"activation": "groupmax", "k": 7}, "k=7 does not divide a width of 40"),
        ({"skip_connection": True}, "no tensor 'W_skip'"),
        ({"num_latents": 41}, "says 41 latents of 12 dimensions"),
        ({"num_latents": 0, "expansion_factor": 4}, "says 48 latents of 12 dimensions"),
        ({"d_in": 13}, "says 40 latents of 13 dimensions"),
        ({"k": None}, "'k' is None, but must be a whole number"),
        ({"k": "5"}, "'k' is '5'"),
        ({"k": True}, "'k' is True"),
        ({"k": 0}, "k=0 does not fit"),
    ],
)
def test_sparsify_variants_that_are_not_read_are_refused(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    directory = families.sparsify(tmp_path, random_weights()).path
    reconfigured(directory, **fields)
    with pytest.raises(WeightsError, match=message):
        sparsify.read(directory)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architecture": "temporal"}, "'temporal' autoencoders are not read: its codes depend on the tokens before"),
        (
            {"architecture": "matching_pursuit"},
            "'matching_pursuit' autoencoders are not read: its codes are found by a",
        ),
        ({"architecture": "batchtopk"}, "architecture 'batchtopk' is not known; known: standard, gated, topk"),
        ({"architecture": "topk"}, "'k' is None, but must be a whole number"),
        ({"architecture": "gated"}, "no tensor 'b_gate'"),
        ({"architecture": "jumprelu"}, "no tensor 'threshold'"),
        ({"architecture": "skip_transcoder"}, "no tensor 'W_skip'"),
        (
            {"architecture": "transcoder", "normalize_activations": "layer_norm"},
            "a transcoder with normalize_activations",
        ),
        ({"normalize_activations": "expected_average_only_in"}, "multiplied by a factor in training which is not"),
        ({"normalize_activations": "covariance_whitening"}, "the whitening was not folded into the weights"),
        ({"normalize_activations": "batch_norm"}, "normalize_activations='batch_norm' is not known; known: none, lay"),
        ({"metadata": {"hook_head_index": 3}}, r"a single attention head \(hook_head_index=3\)"),
    ],
)
def test_saelens_variants_that_are_not_read_are_refused(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = families.write_saelens(tmp_path, random_weights(), families.saelens_config(**fields))
    with pytest.raises(WeightsError, match=message):
        saelens.read(path)


def test_flat_normalisation_of_the_early_versions_needs_its_factor(tmp_path: Path) -> None:
    config = families.flat_config(normalize_activations=True)
    path = families.write_saelens(tmp_path, random_weights(), config)
    with pytest.raises(WeightsError, match=r"norm_scaling_factor=\.\.\."):
        saelens.read(path)
    x = torch.randn(9, D_IN, generator=torch.Generator().manual_seed(0))
    plain = saelens.read(families.write_saelens(tmp_path, random_weights(), families.flat_config()))
    families.write_saelens(tmp_path, random_weights(), config)
    given = saelens.read(path, Overrides(norm_scaling_factor=0.36))
    families.write_saelens(tmp_path, random_weights(), config | {"norm_scaling_factor": 0.36})
    for coder in (given, saelens.read(path)):
        assert torch.allclose(coder(x), plain(0.36 * x), rtol=1e-5, atol=1e-6)
        assert torch.allclose(coder.reconstruct(x), plain.reconstruct(0.36 * x) / 0.36, rtol=1e-5, atol=1e-5)


def test_a_fine_tuned_scaling_counts_on_decoding_alone(tmp_path: Path) -> None:
    """As in SAELens before version 6, which refuses one that the configuration does not speak of."""
    w, x = random_weights(), torch.randn(9, D_IN, generator=torch.Generator().manual_seed(0))
    scaling = np.linspace(0.5, 1.5, WIDTH, dtype=np.float32)
    plain = saelens.read(families.write_saelens(tmp_path / "plain", w, families.flat_config()))
    path = families.write_saelens(tmp_path, w, families.flat_config(), scaling_factor=scaling)
    with pytest.raises(WeightsError, match="does not say finetuning_scaling_factor"):
        saelens.read(path)
    families.write_saelens(tmp_path, w, families.flat_config(finetuning_scaling_factor=True), scaling_factor=scaling)
    tuned = saelens.read(path)
    assert torch.equal(tuned(x), plain(x))
    expected = (plain(x).numpy() * scaling) @ w.w_dec + w.b_dec
    assert np.allclose(tuned.reconstruct(x).numpy(), expected, rtol=1e-5, atol=1e-5)
    ones = np.ones(WIDTH, np.float32)
    assert torch.equal(
        saelens.read(families.write_saelens(tmp_path, w, families.flat_config(), scaling_factor=ones))(x), plain(x)
    )


def test_l0_is_claimed_where_frequencies_were_saved(tmp_path: Path) -> None:
    path = families.write_saelens(tmp_path, random_weights(), families.flat_config())
    assert saelens.read(path).settings.claims.l0 is None
    frequencies = np.linspace(0, 0.5, WIDTH)
    save_file({"sparsity": np.log10(frequencies + 1e-10).astype(np.float32)}, path / "sparsity.safetensors")
    assert saelens.read(path).settings.claims.l0 == pytest.approx(frequencies.sum(), rel=1e-5)


def test_a_missing_openai_activation_is_relu(tmp_path: Path) -> None:
    """As in OpenAI's own `from_state_dict`."""
    file = families.openai_relu(tmp_path, random_weights()).path
    state = torch.load(file, weights_only=True)
    del state["activation"]
    torch.save(state, file)
    assert openai.read(file).settings.activation == "relu"


def test_what_an_old_sparsify_configuration_lacks_is_sparsifys_default(tmp_path: Path) -> None:
    directory = families.sparsify(tmp_path, random_weights()).path
    (directory / "cfg.json").write_text(json.dumps({"num_latents": WIDTH, "normalize_decoder": True}))
    settings = sparsify.read(directory).settings
    assert (settings.activation, settings.k, settings.side, settings.subtract_b_dec) == ("topk", 32, "output", True)


def test_signed_sparsify_codes_keep_their_signs(tmp_path: Path) -> None:
    """sparsify's first version: the k entries of largest absolute value of pre-activations that pass no ReLU."""
    w = random_weights()
    directory = families.sparsify(tmp_path, w).path
    reconfigured(directory, signed=True)
    x = np.random.default_rng(1).normal(size=(32, D_IN)).astype(np.float32)
    pre = families.pre_activations(w, x, subtract=True)
    expected = np.zeros_like(pre)
    for row, values in enumerate(pre):
        best = np.argsort(-np.abs(values))[: families.K]
        expected[row, best] = values[best]
    found = sparsify.read(directory)(torch.tensor(x)).numpy()
    assert (expected < 0).any()
    assert np.array_equal(found != 0, expected != 0)
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-5)
