"""Settings of a family that are not read are refused by name: wrong numbers without a word would be worse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sae_auto_interp.autoencoders import openai, saelens, sparsify
from sae_auto_interp.errors import UnknownNameError, WeightsError
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
        ({"activation_state_dict": {"k": 5, "postact_fn": "Identity"}}, "postact_fn='Identity' is not read yet"),
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
        ({"activation": "groupmax"}, "activation 'groupmax' is not read yet"),
        ({"transcode": True}, "transcode=true is not read yet"),
        ({"skip_connection": True}, "skip_connection=true is not read yet"),
        ({"signed": True}, "signed=true is not read yet"),
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
        ({"architecture": "gated"}, "architecture 'gated' is not read yet; known: standard, jumprelu, topk"),
        ({"architecture": "topk"}, "'k' is None, but must be a whole number"),
        ({"normalize_activations": "expected_average_only_in"}, "'expected_average_only_in' is not read yet"),
        ({"normalize_activations": True}, "normalize_activations=True is not read yet"),
        ({"reshape_activations": "hook_z"}, "'hook_z' is not read yet"),
        ({"metadata": {"model_from_pretrained_kwargs": {"center_writing_weights": True}}}, "centred activations"),
    ],
)
def test_saelens_variants_that_are_not_read_are_refused(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = families.write_saelens(tmp_path, random_weights(), families.saelens_config(**fields))
    with pytest.raises(WeightsError, match=message):
        saelens.read(path)


def test_a_fine_tuned_scaling_is_refused_and_one_of_ones_is_not(tmp_path: Path) -> None:
    for scale in (1.0, 1.5):
        scaling = np.full(WIDTH, scale, np.float32)
        path = families.write_saelens(tmp_path, random_weights(), families.flat_config(), scaling_factor=scaling)
        if scale == 1.0:
            assert saelens.read(path).d_in == D_IN
    with pytest.raises(WeightsError, match="scaling_factor"):
        saelens.read(path)


def test_an_unknown_hook_is_answered_with_the_nearest(tmp_path: Path) -> None:
    config = families.saelens_config(metadata={"hook_name": "blocks.1.hook_mlp_ou"})
    path = families.write_saelens(tmp_path, random_weights(), config)
    with pytest.raises(UnknownNameError, match=r"did you mean 'blocks\.N\.hook_mlp_out'"):
        saelens.module_path(path, "gpt2")
    with pytest.raises(UnknownNameError, match="did you mean 'gpt2'"):
        saelens.module_path(path, "gpt-2")


@pytest.mark.parametrize(
    ("model_type", "hook", "path"),
    [
        ("gpt2", "blocks.11.hook_resid_post", "h.11"),
        ("gpt2", "blocks.0.hook_mlp_out", "h.0.mlp"),
        ("gpt2", "blocks.3.hook_attn_out", "h.3.attn"),
        ("gpt_neox", "blocks.3.hook_attn_out", "layers.3.attention"),
        ("llama", "blocks.3.hook_attn_out", "layers.3.self_attn"),
        ("qwen3", "blocks.3.hook_resid_post", "layers.3"),
    ],
)
def test_where_a_hook_is(model_type: str, hook: str, path: str, tmp_path: Path) -> None:
    config = families.saelens_config(metadata={"hook_name": hook})
    assert saelens.module_path(families.write_saelens(tmp_path, random_weights(), config), model_type) == path
