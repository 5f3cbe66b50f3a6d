"""Names of modules as users write them, and features that a module has."""

import pytest

from sae_auto_interp.errors import InputError, UnknownNameError
from sae_auto_interp.module_names import check_indices, resolve_module_name, resolved_indices

KNOWN = [
    "model.layers.3.mlp",
    "model.layers.3",
    "model.layers.13.mlp",
    "model.layers.3@width_65k",
    "model.layers.3@a.layers.3",
]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("model.layers.3.mlp", "model.layers.3.mlp"),
        ("layers.3.mlp", "model.layers.3.mlp"),
        ("3.mlp", "model.layers.3.mlp"),
        ("layers.3", "model.layers.3"),
        ("model.model.layers.13.mlp", "model.layers.13.mlp"),
        ("layers.3@width_65k", "model.layers.3@width_65k"),
        ("@width_65k", "model.layers.3@width_65k"),
    ],
)
def test_a_name_means_one_module(written: str, meant: str) -> None:
    assert resolve_module_name(written, KNOWN) == meant


@pytest.mark.parametrize("written", ["layers.4.mlp", "", "@", "ayers.3", "layers.3.", "width_65k", "../layers.3"])
def test_a_name_that_means_none_is_answered_with_the_known(written: str) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown module path in features\.indices") as caught:
        resolve_module_name(written, KNOWN, "features.indices")
    assert "model.layers.3.mlp" in str(caught.value)


def test_a_name_that_means_several_is_not_guessed() -> None:
    with pytest.raises(InputError, match=r"'mlp' could be any of model\.layers\.13\.mlp, model\.layers\.3\.mlp"):
        resolve_module_name("mlp", KNOWN)


def test_a_short_name_of_a_model_that_is_named_shorter() -> None:
    assert resolve_module_name("transformer.h.2", ["h.2", "h.12"]) == "h.2"


@pytest.mark.parametrize("index", [5000, 1536, -1, 2**63, 2**63 - 1, -(2**70)])
def test_a_feature_beyond_the_width_is_named_with_the_width(index: int) -> None:
    message = f"there is no feature {index} of model.layers.3.mlp; it has 0 to 1535"
    with pytest.raises(InputError) as caught:
        resolved_indices({"layers.3.mlp": (1214, index)}, {"model.layers.3.mlp": 1536}, "features.indices")
    assert str(caught.value) == f"features.indices: {message}"


def test_two_names_of_one_module_are_put_together() -> None:
    found = resolved_indices({"h.1": (4, 2), "transformer.h.1": (2, 0)}, {"transformer.h.1": 5}, "")
    assert found == {"transformer.h.1": (4, 2, 0)}
    check_indices("m", [0, 4], 5)
    check_indices("m", [10**6], None)
