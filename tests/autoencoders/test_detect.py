"""The family of a directory of weights is found from its files, and an error says what was looked for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nnsight
import pytest
import torch

from sae_auto_interp.autoencoders import load_autoencoders, load_eai_autoencoders, load_oai_autoencoders
from sae_auto_interp.autoencoders.attach import attached_coder
from sae_auto_interp.autoencoders.detect import detect_family
from sae_auto_interp.errors import InputError
from tests.autoencoders import families
from tests.autoencoders.families import Weights, Written
from tests.support.records import tiny_gpt2

BY_FAMILY = {
    "openai": families.openai_topk,
    "sparsify": families.sparsify,
    "saelens": families.saelens_jumprelu,
}


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> Weights:
    """For a model of 16 dimensions."""
    monkeypatch.setattr(families, "D_IN", 16)
    return families.random_weights()


@pytest.mark.parametrize("family", BY_FAMILY)
def test_a_family_is_known_by_its_files(family: str, weights: Weights, tmp_path: Path) -> None:
    BY_FAMILY[family](tmp_path, weights)
    (tmp_path / "README.md").write_text("sparsify openai saelens")
    found, reason = detect_family(tmp_path)
    assert found == family
    assert reason.startswith("it holds ")


def test_a_single_saelens_directory_is_known(weights: Weights, tmp_path: Path) -> None:
    assert detect_family(families.saelens_standard(tmp_path, weights).path)[0] == "saelens"


@pytest.mark.parametrize(
    ("family", "choice", "paths"),
    [
        ("openai", None, ["transformer.h.1"]),
        ("openai", ["1"], ["transformer.h.1"]),
        ("sparsify", None, ["transformer.h.1"]),
        ("sparsify", ["h.1"], ["transformer.h.1"]),
        ("saelens", None, ["transformer.h.1"]),
        ("saelens", ["my_sae"], ["transformer.h.1"]),
    ],
)
def test_the_right_loader_is_taken(
    family: str, choice: list[str] | None, paths: list[str], weights: Weights, tmp_path: Path
) -> None:
    write: Callable[[Path, Weights], Written] = BY_FAMILY[family]
    written = write(tmp_path, weights)
    if family == "openai":
        written.path.rename(tmp_path / "1.pt")
    model: Any = nnsight.NNsight(tiny_gpt2())
    attached = load_autoencoders(model, str(tmp_path), choice)
    assert list(attached) == paths
    assert attached_coder(attached[paths[0]]).settings.family == family


def test_several_families_in_one_directory_are_not_guessed(weights: Weights, tmp_path: Path) -> None:
    families.openai_topk(tmp_path, weights)
    families.sparsify(tmp_path, weights)
    with pytest.raises(InputError, match=r"\{layer\}\.pt \(openai\) and it holds h\.1/sae\.safetensors \(sparsify\)"):
        detect_family(tmp_path)


def test_an_unknown_directory_is_answered_with_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds nothing\. Known: own, openai, "):
        detect_family(tmp_path)
    (tmp_path / "weights.npz").write_bytes(b"")
    with pytest.raises(InputError, match=r"of no known family; it holds weights\.npz"):
        detect_family(tmp_path)


def test_weights_deeper_down_are_found(weights: Weights, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    families.sparsify(tmp_path / "a" / "b", weights)
    assert detect_family(tmp_path) == ("sparsify", "it holds a/b/h.1/sae.safetensors")
    assert list(load_autoencoders(nnsight.NNsight(tiny_gpt2()), tmp_path)) == ["transformer.h.1"]


@pytest.mark.parametrize("family", BY_FAMILY)
def test_a_single_file_is_known_as_well(family: str, weights: Weights, tmp_path: Path) -> None:
    path = BY_FAMILY[family](tmp_path, weights).path
    if family == "openai":
        path = path.rename(tmp_path / "1.pt")
    file = path if path.is_file() else next(path.glob("*.safetensors"))
    assert detect_family(file)[0] == family
    assert list(load_autoencoders(nnsight.NNsight(tiny_gpt2()), file)) == ["transformer.h.1"]


def test_other_torch_files_are_not_openais(tmp_path: Path) -> None:
    torch.save({"encoder.weight": torch.zeros(2, 2)}, tmp_path / "3.pt")
    for root in (tmp_path, tmp_path / "3.pt"):
        with pytest.raises(InputError, match="of no known family"):
            detect_family(root)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file or directory .*nowhere"):
        load_autoencoders(None, tmp_path / "nowhere")


@pytest.mark.parametrize("choice", ["h.1", "", "²", "-1", "1.5"])
def test_openai_weights_are_chosen_by_layer_number(choice: str, weights: Weights, tmp_path: Path) -> None:
    families.openai_topk(tmp_path, weights)
    with pytest.raises(InputError, match="chosen by layer number"):
        load_autoencoders(nnsight.NNsight(tiny_gpt2()), tmp_path, [choice])


@pytest.mark.parametrize(
    ("family", "choice"), [("openai", 1), ("openai", [1]), ("openai", "1"), ("sparsify", "h.1"), ("saelens", "my_sae")]
)
def test_one_choice_needs_no_list_and_a_layer_no_quotes(
    family: str, choice: Any, weights: Weights, tmp_path: Path
) -> None:
    written = BY_FAMILY[family](tmp_path, weights)
    if family == "openai":
        written.path.rename(tmp_path / "1.pt")
    assert list(load_autoencoders(nnsight.NNsight(tiny_gpt2()), tmp_path, choice)) == ["transformer.h.1"]


def test_the_loaders_of_one_family_take_one_choice_too(weights: Weights, tmp_path: Path) -> None:
    families.openai_topk(tmp_path, weights).path.rename(tmp_path / "1.pt")
    (tmp_path / "b").mkdir()
    families.sparsify(tmp_path / "b", weights)
    model: Any = nnsight.NNsight(tiny_gpt2())
    assert list(load_oai_autoencoders(model, 1, tmp_path)) == ["transformer.h.1"]
    assert list(load_eai_autoencoders(model, "h.1", tmp_path / "b")) == ["transformer.h.1"]
