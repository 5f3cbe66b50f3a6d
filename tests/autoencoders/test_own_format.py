"""Loaded, saved in our own format, loaded again: every coder of every family is the same to the last bit."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nnsight
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sae_auto_interp.autoencoders import load_autoencoders, save_autoencoder
from sae_auto_interp.autoencoders.attach import attach, attached_coder
from sae_auto_interp.autoencoders.families.own_format import read
from sae_auto_interp.autoencoders.neurons import NeuronCoder, rotated_neurons
from sae_auto_interp.autoencoders.random_weights import random_coder
from sae_auto_interp.autoencoders.settings import CoderClaims, CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import SparseCoder
from sae_auto_interp.errors import InputError, UnknownNameError, WeightsError
from sae_auto_interp.models.sites.site import Placement, Site
from tests.autoencoders import families, test_conformance, test_more_families as more
from tests.autoencoders.families import ALL, random_weights
from tests.autoencoders.test_families import Write, canonical, read as read_family
from tests.support.records import D_MODEL, tiny_gpt2


def assert_same(found: SparseCoder, coder: SparseCoder, directory: Path) -> None:
    assert found.settings == replace(coder.settings, source=str(directory))
    assert found.placement == coder.placement
    assert found.state_dict().keys() == coder.state_dict().keys()
    for name, value in coder.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name


@pytest.mark.parametrize("write", ALL)
def test_coders_of_the_formulas(write: Write, tmp_path: Path) -> None:
    coder = read_family(write(tmp_path, random_weights()))
    save_autoencoder(coder, tmp_path / "saved" / "mine")
    assert_same(read(tmp_path / "saved" / "mine"), coder, tmp_path / "saved" / "mine")


@pytest.mark.parametrize("directory", test_conformance.CASES, ids=test_conformance.name_of)
def test_coders_of_the_families_own_packages(directory: Path, tmp_path: Path) -> None:
    coder = test_conformance.read(directory)
    save_autoencoder(coder, tmp_path)
    again = read(tmp_path)
    assert_same(again, coder, tmp_path)
    x = load_file(directory / "expected.safetensors")["x"]
    assert torch.equal(again(x), coder(x))
    assert torch.equal(again.reconstruct(x), coder.reconstruct(x))


@pytest.mark.parametrize("write", more.READERS)
def test_coders_of_the_other_families(write: Write, tmp_path: Path) -> None:
    coder = more.read(write, write(tmp_path, random_weights()))
    save_autoencoder(coder, tmp_path / "mine")
    again = read(tmp_path / "mine")
    assert_same(again, coder, tmp_path / "mine")
    x = torch.randn(20, coder.d_in, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(x), coder(x))
    assert torch.equal(again.reconstruct(x), coder.reconstruct(x))


@pytest.mark.parametrize(
    "coder",
    [
        random_coder(D_MODEL, 30, np.random.default_rng(0), k=4),
        random_coder(D_MODEL, 30, np.random.default_rng(0)),
        rotated_neurons(D_MODEL, np.random.default_rng(0), k=3),
        rotated_neurons(D_MODEL, np.random.default_rng(0), threshold=0.5),
    ],
)
def test_coders_whose_matrices_share_memory(coder: SparseCoder, tmp_path: Path) -> None:
    attach(nnsight.NNsight(tiny_gpt2()), {"h.1": coder})
    save_autoencoder(coder, tmp_path / "mine")
    assert_same(read(tmp_path / "mine"), coder, tmp_path / "mine")
    assert list(load_autoencoders(nnsight.NNsight(tiny_gpt2()), tmp_path / "mine")) == ["transformer.h.1"]


def test_what_has_no_weights_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a NeuronCoder has no weights to save"):
        save_autoencoder(NeuronCoder(D_MODEL, k=3), tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def small_coder(**settings: Any) -> SparseCoder:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(families, "D_IN", D_MODEL)
        changed: dict[str, Any] = {"activation": "jumprelu", "family": "mine", **settings}
        return SparseCoder(canonical(), CoderSettings(**changed))


def test_the_place_and_the_claims_come_back(tmp_path: Path) -> None:
    claims = CoderClaims("some/model", 12.5, "blocks.1.hook_mlp_in", 256, "some/texts — 文")
    coder = small_coder(claims=claims, prepend_bos=True, subtract_b_dec=False)
    placement = Placement((Site("transformer.h.1.mlp", "input", transform="centred"),), Site("transformer.h.1.mlp"))
    attach(nnsight.NNsight(tiny_gpt2()), {placement: coder})
    save_autoencoder(coder, tmp_path / "any name")
    model: Any = nnsight.NNsight(tiny_gpt2())
    attached = load_autoencoders(model, tmp_path)
    assert list(attached) == ["transformer.h.1.mlp"]
    found = attached_coder(attached["transformer.h.1.mlp"])
    assert isinstance(found, SparseCoder)
    assert_same(found, coder, tmp_path / "any name")


def test_a_coder_that_was_never_attached_belongs_where_its_directory_says(tmp_path: Path) -> None:
    for name in ("h.0.mlp", "h.1"):
        save_autoencoder(small_coder(side="input"), tmp_path / name)
    model: Any = nnsight.NNsight(tiny_gpt2())
    assert list(load_autoencoders(model, tmp_path)) == ["transformer.h.0.mlp", "transformer.h.1"]
    assert list(load_autoencoders(model, tmp_path, ["h.1"])) == ["transformer.h.1"]
    attached = load_autoencoders(model, tmp_path / "h.1" / "coder.safetensors")
    placement = attached_coder(attached["transformer.h.1"]).placement
    assert placement == Placement((Site("transformer.h.1", "input"),))


def test_a_place_that_the_model_lacks_is_named(tmp_path: Path) -> None:
    coder = small_coder()
    attach(nnsight.NNsight(tiny_gpt2()), {"h.1.mlp": coder})
    save_autoencoder(coder, tmp_path)
    with pytest.raises(UnknownNameError, match=r"unknown module path 'transformer\.h\.1\.mlp'"):
        load_autoencoders(nnsight.NNsight(tiny_gpt2(n_layers=1)), tmp_path)


def test_two_coders_of_one_place_are_not_chosen_between(tmp_path: Path) -> None:
    coder = small_coder()
    attach(nnsight.NNsight(tiny_gpt2()), {"h.1": coder})
    for name in ("one", "two"):
        save_autoencoder(coder, tmp_path / name)
    with pytest.raises(InputError, match=r"one and two are both for transformer\.h\.1; choose one"):
        load_autoencoders(nnsight.NNsight(tiny_gpt2()), tmp_path)
    assert load_autoencoders(nnsight.NNsight(tiny_gpt2()), tmp_path, ["two"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, r"is no 'sae-auto-interp coder' file \(format='other'\)"),
        ({"version": 2}, "of version 2; this sae-auto-interp reads version 1"),
        ({"settings": {"activation": "topk"}}, "is damaged"),
        ({"settings": {"claims": {}, "activation": "topk", "novel": 1}}, "is damaged .*novel"),
        ({"settings": None}, "is damaged"),
        (
            {"settings": {"claims": {}, "activation": "softplus"}},
            "activation is 'softplus', which is unknown; known: topk, relu",
        ),
        (
            {"settings": {"claims": {}, "activation": "relu", "normalisation": "batch_norm"}},
            "normalisation is 'batch_norm', which is unknown; known: none, layer_norm",
        ),
        ({"settings": {"claims": {}, "activation": "relu", "side": "left"}}, "side is 'left'"),
        ({"placement": {"sites": [{"nowhere": 1}], "target": None}}, "is damaged"),
    ],
)
def test_damaged_and_newer_files_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    save_autoencoder(small_coder(), tmp_path)
    content = json.loads((tmp_path / "coder.json").read_text())
    (tmp_path / "coder.json").write_text(json.dumps(content | change))
    with pytest.raises(WeightsError, match=message):
        read(tmp_path)


def test_other_tensors_and_missing_files_are_refused(tmp_path: Path) -> None:
    save_autoencoder(small_coder(), tmp_path)
    tensors = load_file(tmp_path / "coder.safetensors")
    save_file(tensors | {"W_enc": torch.zeros(2)}, tmp_path / "coder.safetensors")
    with pytest.raises(WeightsError, match="not the tensors of this format"):
        read(tmp_path)
    del tensors["b_enc"]
    save_file(tensors, tmp_path / "coder.safetensors")
    with pytest.raises(WeightsError, match=r"is damaged .*b_enc"):
        read(tmp_path)
    (tmp_path / "coder.safetensors").unlink()
    with pytest.raises(InputError, match=r"no file .*coder\.safetensors"):
        read(tmp_path)
