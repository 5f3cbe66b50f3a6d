"""Files that are missing, cut, of something else, or that want to run code: one clear error each, and nothing runs."""

import io
import os
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sae_auto_interp.autoencoders.families import openai, saelens, sparsify
from sae_auto_interp.autoencoders.files import read_json, read_torch_file, sha256_of
from sae_auto_interp.errors import InputError, WeightsError
from tests.autoencoders import families
from tests.autoencoders.families import random_weights
from tests.support.weights import replace_file


class MakesADirectory:
    """Unpickled by a loader that runs what it is told, this makes a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle"])
def test_a_pickle_that_wants_to_run_code_is_refused_and_runs_nothing(form: str, tmp_path: Path) -> None:
    made, file = tmp_path / "made_by_the_pickle", tmp_path / "3.pt"
    if form == "bare pickle":
        file.write_bytes(f"c{os.mkdir.__module__}\nmkdir\n(V{made}\ntR.".encode())
    else:
        payload = {"encoder.weight": torch.zeros(3), "activation": MakesADirectory(made)}
        torch.save(payload, file, _use_new_zipfile_serialization=form == "zip")
    content = file.read_bytes()
    assert b"mkdir" in content
    assert str(made).encode() in content
    with pytest.raises(WeightsError, match="refused as a torch file"):
        openai.read(file)
    assert not made.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:12",
        b"<html></html>",
        b"PK\x03\x04",
        b"\x80\x02}q\x00.",
    ],
)
def test_something_else_under_the_name_of_weights_is_an_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "0.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=r"0\.pt"):
        openai.read(tmp_path / "0.pt")


def test_any_damage_to_a_torch_file_is_one_kind_of_error(tmp_path: Path) -> None:
    originals = []
    for is_zip in (True, False):
        stream = io.BytesIO()
        torch.save({"a": torch.zeros(40), "activation": "TopK"}, stream, _use_new_zipfile_serialization=is_zip)
        originals.append(stream.getvalue())
    random_source, file, n_refused = random.Random(0), tmp_path / "0.pt", 0
    for number in range(300):
        content = bytearray(originals[number % 2])
        if number % 3:
            content = content[: random_source.randrange(len(content))]
        for _ in range(random_source.randrange(4) if content else 0):
            content[random_source.randrange(len(content))] = random_source.randrange(256)
        file.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of unknown pickle protocols before it refuses them
            try:
                read_torch_file(file)
            except WeightsError:
                n_refused += 1
    assert n_refused > 200


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("family", ["openai", "sparsify", "saelens"])
def test_a_truncated_file_is_named(family: str, fraction: float, tmp_path: Path) -> None:
    file, read = written(family, tmp_path)
    file.write_bytes(file.read_bytes()[: int(fraction * file.stat().st_size)])
    with pytest.raises(WeightsError, match=file.name) as caught:
        read()
    assert "truncated" in str(caught.value) or "refused" in str(caught.value)


def written(family: str, folder: Path) -> tuple[Path, Callable[[], Any]]:
    """The weight file of a good coder, and how to read it."""
    w = random_weights()
    if family == "openai":
        file = families.openai_topk(folder, w).path
        return file, lambda: openai.read(file)
    if family == "sparsify":
        path = families.sparsify(folder, w).path
        return path / "sae.safetensors", lambda: sparsify.read(path)
    path = families.saelens_jumprelu(folder, w).path
    return path / "sae_weights.safetensors", lambda: saelens.read(path)


def changed(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    state = torch.load(file, weights_only=True) if file.suffix == ".pt" else load_file(file)
    change(state)
    if file.suffix == ".pt":
        torch.save(state, file)
    else:
        replace_file(state, file)


TENSORS = [
    *(("openai", name) for name in ("encoder.weight", "latent_bias", "decoder.weight", "pre_bias")),
    *(("sparsify", name) for name in ("encoder.weight", "encoder.bias", "W_dec", "b_dec")),
    *(("saelens", name) for name in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")),
]


@pytest.mark.parametrize(("family", "name"), TENSORS)
def test_a_missing_tensor_is_named_with_what_is_there(family: str, name: str, tmp_path: Path) -> None:
    file, read = written(family, tmp_path)
    read()
    changed(file, lambda state: state.pop(name))
    with pytest.raises(WeightsError, match=f"no tensor '{name}'; the file holds .*, "):
        read()


@pytest.mark.parametrize(("family", "name"), TENSORS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_are_refused(family: str, name: str, value: float, tmp_path: Path) -> None:
    file, read = written(family, tmp_path)
    changed(file, lambda state: state[name].view(-1)[7].fill_(value))
    with pytest.raises(WeightsError, match="NaN or infinite"):
        read()


@pytest.mark.parametrize(
    ("family", "name"), [(f, n) for f, n in TENSORS if n.lower().endswith(("weight", "enc", "dec"))]
)
def test_a_transposed_or_flattened_matrix_is_refused(family: str, name: str, tmp_path: Path) -> None:
    file, read = written(family, tmp_path)
    is_matrix: list[bool] = []

    def transpose(state: dict[str, torch.Tensor]) -> None:
        is_matrix.append(state[name].ndim == 2)
        state[name] = state[name].T.contiguous() if state[name].ndim == 2 else state[name][:-1]

    changed(file, transpose)
    with pytest.raises(WeightsError, match=r"shape"):
        read()
    changed(file, lambda state: state.update({name: state[name].flatten()}) if is_matrix[0] else state.pop(name))
    with pytest.raises(WeightsError):
        read()


@pytest.mark.parametrize(("family", "name"), TENSORS)
def test_weights_of_whole_numbers_are_refused(family: str, name: str, tmp_path: Path) -> None:
    file, read = written(family, tmp_path)
    changed(file, lambda state: state.update({name: state[name].to(torch.int8)}))
    with pytest.raises(WeightsError, match=r"torch\.int8"):
        read()


def test_a_torch_file_must_hold_a_dictionary(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "0.pt")
    with pytest.raises(WeightsError, match="expected a dictionary of tensors, found Tensor"):
        openai.read(tmp_path / "0.pt")


def test_keys_that_are_no_names_do_not_hide_the_error(tmp_path: Path) -> None:
    torch.save({1: torch.zeros(3), "activation": "ReLU"}, tmp_path / "0.pt")
    with pytest.raises(WeightsError, match=r"no tensor 'encoder\.weight'; the file holds 1, activation"):
        openai.read(tmp_path / "0.pt")


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "3", "\udcff"])
def test_a_configuration_must_be_a_json_object(content: str, tmp_path: Path) -> None:
    (tmp_path / "cfg.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(WeightsError, match=r"cfg\.json"):
        read_json(tmp_path / "cfg.json")


def test_what_is_missing_is_named_with_what_is_there(tmp_path: Path) -> None:
    families.openai_topk(tmp_path, random_weights())
    with pytest.raises(InputError, match=r"no file .*4\.pt; the directory holds 3\.pt"):
        openai.read(tmp_path / "4.pt")
    with pytest.raises(InputError, match=r"there is no directory .*nowhere"):
        openai.read(tmp_path / "nowhere" / "4.pt")
    with pytest.raises(InputError, match=r"sparsify autoencoder: there is no directory .*nowhere"):
        sparsify.read(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no file .*cfg\.json; the directory holds nothing"):
        saelens.read(tmp_path / "empty")


def test_the_hash_of_a_directory_covers_every_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1").write_bytes(b"one")
    (tmp_path / "2").write_bytes(b"two")
    before = sha256_of(tmp_path)
    assert before == sha256_of(tmp_path)
    (tmp_path / "a" / "1").write_bytes(b"One")
    assert sha256_of(tmp_path) != before
    assert sha256_of(tmp_path / "2") == "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"


@pytest.mark.parametrize("family", ["openai", "sparsify", "saelens"])
@pytest.mark.parametrize("shape", [(1, -1), (-1, 1)])
def test_a_bias_that_is_a_row_or_a_column_is_a_bias(family: str, shape: tuple[int, int], tmp_path: Path) -> None:
    file, read = written(family, tmp_path)
    before = read()
    names = [name for each, name in TENSORS if each == family]

    def widen(state: dict[str, torch.Tensor]) -> None:
        state.update({name: state[name].reshape(shape) for name in names if state[name].ndim == 1})

    changed(file, widen)
    after = read()
    assert torch.equal(before.b_dec, after.b_dec)
    assert torch.equal(before.b_enc, after.b_enc)


@pytest.mark.parametrize("name", ["b_enc", "b_dec"])
def test_a_bias_of_another_length_is_not_called_transposed(name: str, tmp_path: Path) -> None:
    file, read = written("saelens", tmp_path)
    changed(file, lambda state: state.update({name: state[name][:-1]}))
    with pytest.raises(WeightsError, match=r"shape") as caught:
        read()
    assert f"{name} has shape" in str(caught.value)
    assert "transposed" not in str(caught.value)
