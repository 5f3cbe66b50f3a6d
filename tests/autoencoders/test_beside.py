"""Several autoencoders at one module: each under a name of its own, with the codes that it has alone."""

from pathlib import Path
from typing import Any

import nnsight
import numpy as np
import pytest
import torch

from sae_auto_interp.autoencoders import FeatureEdit, edited_logits, load_autoencoders
from sae_auto_interp.autoencoders.attach import attach, attached_coder, name_beside, placement_of
from sae_auto_interp.autoencoders.random_weights import random_coder
from sae_auto_interp.autoencoders.settings import CoderSettings
from sae_auto_interp.autoencoders.sparse_coder import SparseCoder
from sae_auto_interp.errors import InputError
from sae_auto_interp.features import FeatureCache, FeatureDataset
from sae_auto_interp.types import FeatureId
from tests.autoencoders import families
from tests.support.records import D_MODEL, tiny_gpt2

TOKENS = torch.arange(24).reshape(2, 12)


def model() -> Any:
    return nnsight.NNsight(tiny_gpt2())


def two_coders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two of sparsify's for h.1, in directories that only their runs' names tell apart."""
    monkeypatch.setattr(families, "D_IN", D_MODEL)
    found: list[Path] = []
    for seed, name in enumerate(("sae_32x", "sae_64x")):
        (folder / name).mkdir()
        found.append(families.sparsify(folder / name, families.random_weights(seed)).path.parent)
    return found


def test_names_differ_by_coder_and_are_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = two_coders(tmp_path, monkeypatch)
    for _ in range(2):
        subject = model()
        attached = load_autoencoders(subject, folders[0])
        attached |= load_autoencoders(subject, folders[1], beside=attached)
        assert list(attached) == ["transformer.h.1", "transformer.h.1@sae_64x"]
        sources = [attached_coder(handle).settings.source for handle in attached.values()]
        assert sources == [str(folder / "h.1") for folder in folders]
        assert {placement_of(handle).home for handle in attached.values()} == {"transformer.h.1"}


def test_each_has_the_codes_that_it_has_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the cache, and in a trace of one's own."""
    folders = two_coders(tmp_path, monkeypatch)
    subject = model()
    together = load_autoencoders(subject, folders[0])
    together |= load_autoencoders(subject, folders[1], beside=together)
    alone = [next(iter(load_autoencoders(model(), folder).values())) for folder in folders]
    with subject.trace(TOKENS):
        first = together["transformer.h.1"].ae.output.save()
        second = together["transformer.h.1@sae_64x"].ae.output.save()
        given = subject.transformer.h[1].output.save()
    hidden = given[0] if isinstance(given, tuple) else given
    assert torch.allclose(first, attached_coder(alone[0])(hidden), atol=1e-5)
    assert torch.allclose(second, attached_coder(alone[1])(hidden), atol=1e-5)
    assert not torch.equal(first, second)
    cached = _cached(subject, together, tmp_path / "together")
    for (name, _), folder in zip(together.items(), folders, strict=True):
        own = model()
        single = _cached(own, load_autoencoders(own, folder), tmp_path / f"alone {name}")
        for index in range(attached_coder(together[name]).width):
            mine, expected = (
                cached.entries(FeatureId(name, index)),
                single.entries(FeatureId("transformer.h.1", index)),
            )
            assert np.array_equal(mine.locations, expected.locations)
            assert np.array_equal(mine.activations, expected.activations)


@pytest.mark.parametrize("backend", ["hooks", "nnsight"])
def test_both_ways_of_reading_take_them(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sae_auto_interp.features import CacheOptions

    subject = model()
    attached: dict[str, Any] = {}
    for folder in two_coders(tmp_path, monkeypatch):
        attached |= load_autoencoders(subject, folder, beside=attached)
    cache = FeatureCache(subject, attached, 2, options=CacheOptions(backend=backend))
    cache.run(tokens=TOKENS)
    assert set(cache.save_splits(2, tmp_path / "features")) == set(attached)


def _cached(subject: Any, attached: dict[str, Any], folder: Path) -> FeatureDataset:
    cache = FeatureCache(subject, attached, 2)
    cache.run(tokens=TOKENS)
    cache.save_splits(2, folder)
    return FeatureDataset(folder)


def test_several_of_one_directory_are_taken_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of them is meant is not guessed, but both may be."""
    monkeypatch.setattr(families, "D_IN", D_MODEL)
    names = ["width_16k/my_sae", "width_65k/my_sae"]
    for seed, name in enumerate(names):
        (tmp_path / name).parent.mkdir()
        families.saelens_standard((tmp_path / name).parent, families.random_weights(seed))
    subject = model()
    with pytest.raises(InputError, match=r"both for .*choose one by its name, or several"):
        load_autoencoders(subject, tmp_path)
    assert list(load_autoencoders(subject, tmp_path, names)) == ["transformer.h.1", "transformer.h.1@width_65k"]


def _random(seed: int) -> Any:
    return random_coder(D_MODEL, 8, np.random.default_rng(seed), k=2)


def test_the_first_may_be_replaced_without_the_others(tmp_path: Path) -> None:
    subject = model()
    attached = attach(subject, {"h.1": _random(0)})
    attached |= attach(subject, {"h.1": _random(1)}, beside=attached)
    attached |= attach(subject, {"h.1": _random(2)}, beside=attached)
    assert list(attached) == ["transformer.h.1", "transformer.h.1@random", "transformer.h.1@random-2"]
    again = attach(subject, {"h.1": _random(3)})
    assert list(again) == ["transformer.h.1"]
    there, stays = attached_coder(again["transformer.h.1"]), attached_coder(attached["transformer.h.1@random"])
    assert isinstance(there, SparseCoder)
    assert isinstance(stays, SparseCoder)
    assert torch.equal(there.direction(2), _random(3).direction(2))
    assert torch.equal(stays.direction(2), _random(1).direction(2))


def test_two_names_of_one_module_in_a_mapping_are_still_a_mistake() -> None:
    with pytest.raises(InputError, match="are one module"):
        attach(model(), {"h.1": _random(0), "transformer.h.1": _random(1)})


SOURCES = {
    "hf:google/scope/layer_12/width_65k/average_l0_72@abc": "h.1@average_l0_72",
    "hf:google/scope/layer_12/width_65k/average_l0_82@abc": "h.1@width_65k",
    "/data/../../etc/passwd": "h.1@passwd",
    "C:\\coders\\my coder": "h.1@my_coder",
    "/data/sae:v1/..": "h.1@v1",
    "/data/" + "x" * 300: "h.1@" + "x" * 60,
    "": "h.1@unknown",
}


@pytest.mark.parametrize("source", SOURCES)
def test_names_are_safe_as_directories_and_as_short_as_tells_them_apart(source: str) -> None:
    first = CoderSettings(activation="relu", source="hf:google/scope/layer_12/width_16k/average_l0_82@abc")
    name = name_beside("h.1", CoderSettings(activation="relu", source=source), {"h.1": first})
    assert name == SOURCES[source]
    assert not set(name) & set("/\\: ")
    assert FeatureId.parse(f"{name}:7") == FeatureId(name, 7)


@pytest.mark.parametrize("name", ["h.1@random", "transformer.h.1@random"])
def test_a_feature_of_either_can_be_edited(name: str) -> None:
    """Adding 1 to a feature's value moves the stream by its decoder row: that of the coder that is named."""
    subject = model()
    first = random_coder(D_MODEL, 8, np.random.default_rng(0))
    second = random_coder(D_MODEL, 8, np.random.default_rng(1))
    attached = attach(subject, {"h.1": first})
    attached |= attach(subject, {"h.1": second}, beside=attached)
    found = {
        each: edited_logits(subject, TOKENS, [FeatureEdit(FeatureId(each, 3), "add", 5.0)]) for each in ("h.1", name)
    }
    for each, coder in (("h.1", first), (name, second)):
        alone = model()
        attach(alone, {"h.1": coder})
        expected = edited_logits(alone, TOKENS, [FeatureEdit(FeatureId("h.1", 3), "add", 5.0)])
        assert torch.allclose(found[each], expected, atol=1e-5)
    assert not torch.allclose(found["h.1"], found[name], atol=1e-3)
    with pytest.raises(InputError, match=r"no autoencoder is attached at 'transformer\.h\.1@other'"):
        edited_logits(subject, TOKENS, [FeatureEdit(FeatureId("h.1@other", 3), "add", 5.0)])
