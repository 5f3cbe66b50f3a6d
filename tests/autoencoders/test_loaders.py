"""Each family's public loader attaches the right file at the right module, and says what it lacks."""

from pathlib import Path
from typing import Any

import nnsight
import pytest
import torch

from sae_auto_interp.autoencoders import (
    load_autoencoders,
    load_eai_autoencoders,
    load_oai_autoencoders,
    load_saelens_autoencoders,
)
from sae_auto_interp.errors import InputError, UnknownNameError, WeightsError
from tests.autoencoders import families
from tests.autoencoders.families import Weights
from tests.support.records import D_MODEL, tiny_gpt2

BLOCK, MLP = "transformer.h.1", "transformer.h.0.mlp"


@pytest.fixture
def model() -> Any:
    return nnsight.NNsight(tiny_gpt2(n_layers=3))


def weights_for(d_in: int = D_MODEL) -> Weights:
    """As in `families`, for the tiny GPT-2."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(families, "D_IN", d_in)
        return families.random_weights()


def test_openai_weights_are_attached_by_layer(model: Any, tmp_path: Path) -> None:
    for layer in (0, 2):
        families.openai_topk(tmp_path, weights_for()).path.rename(tmp_path / f"{layer}.pt")
    assert list(load_oai_autoencoders(model, [2, 0], tmp_path)) == ["transformer.h.2", "transformer.h.0"]
    assert list(load_oai_autoencoders(model, [0], tmp_path, location="resid_delta_mlp")) == [MLP]
    attached = load_oai_autoencoders(model, [2], str(tmp_path), location="resid_delta_attn")
    assert list(attached) == ["transformer.h.2.attn"]
    with torch.inference_mode(), model.trace(input_ids=torch.tensor([[1, 2, 3]])):
        code = attached["transformer.h.2.attn"].ae.output.save()
    assert code.shape == (1, 3, families.WIDTH)
    with pytest.raises(InputError, match=r"no file .*1\.pt; the directory holds 0\.pt, 2\.pt"):
        load_oai_autoencoders(model, [1], tmp_path)
    with pytest.raises(UnknownNameError, match="did you mean 'resid_post_mlp'"):
        load_oai_autoencoders(model, [0], tmp_path, location="resid_post_mpl")


def test_sparsify_weights_are_attached_where_their_directory_says(model: Any, tmp_path: Path) -> None:
    families.sparsify(tmp_path, weights_for())
    (tmp_path / "empty").mkdir()
    assert list(load_eai_autoencoders(model, None, tmp_path)) == [BLOCK]
    assert list(load_eai_autoencoders(model, None, tmp_path / "h.1")) == [BLOCK], "the directory itself"
    assert list(load_eai_autoencoders(model, ["h.1"], str(tmp_path))) == [BLOCK]
    with pytest.raises(InputError, match="sparsify autoencoder: there is no directory"):
        load_eai_autoencoders(model, ["h.0"], tmp_path)
    with pytest.raises(InputError, match="there is no directory"):
        load_eai_autoencoders(model, None, tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no directory with a cfg\.json and a sae\.safetensors"):
        load_eai_autoencoders(model, None, tmp_path / "empty")


def test_saelens_weights_are_attached_where_their_hook_says(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(families, "D_IN", 16)
    standard = families.saelens_standard(tmp_path, weights_for()).path
    assert list(load_saelens_autoencoders(model, None, tmp_path)) == [BLOCK]
    assert list(load_saelens_autoencoders(model, None, standard)) == [BLOCK], "the directory itself"
    assert list(load_saelens_autoencoders(model, ["my_sae"], str(tmp_path))) == [BLOCK]
    standard.rename(tmp_path / "first")
    families.saelens_jumprelu(tmp_path, weights_for())
    with pytest.raises(InputError, match=r"first and my_sae are both for transformer\.h\.1; choose one"):
        load_saelens_autoencoders(model, None, tmp_path)
    assert list(load_saelens_autoencoders(model, ["my_sae"], tmp_path)) == [BLOCK]
    (tmp_path / "empty").mkdir()
    for nothing, message in ((tmp_path / "empty", r"no cfg\.json"), (tmp_path / "nowhere", "there is no directory")):
        with pytest.raises(InputError, match=message):
            load_saelens_autoencoders(model, None, nothing)


def test_weights_for_another_model_are_refused(model: Any, tmp_path: Path) -> None:
    families.openai_topk(tmp_path, weights_for(d_in=20))
    (tmp_path / "3.pt").rename(tmp_path / "0.pt")
    with pytest.raises(
        WeightsError, match=r"0\.pt reads 20 dimensions, but transformer\.h\.0:out of this model has 16"
    ):
        load_autoencoders(model, tmp_path)
