"""Arrays in files: written piece by piece as the safetensors library would, read by slice, and damage is named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_tensors, save_file as save_tensors

from sae_auto_interp.cache.arrays import ArrayFile, ArrayWriter
from sae_auto_interp.cache.layout import write_arrays
from sae_auto_interp.cache.value_types import CODE_OF
from sae_auto_interp.errors import CacheError


@pytest.mark.parametrize("location", ["uint16", "uint32", "uint64"])
@pytest.mark.parametrize("activation", ["float16", "float32"])
@pytest.mark.parametrize("n", [0, 1, 1000])
def test_piecewise_files_are_those_of_safetensors(location: str, activation: str, n: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(n)
    arrays = {
        "activations": rng.normal(size=n).astype(activation),
        "locations": rng.integers(0, 60_000, n).astype(location),
        "offsets": np.arange(7),
    }
    save_file(arrays, tmp_path / "whole.safetensors")
    path = tmp_path / "pieces.safetensors"
    with ArrayWriter(path, {name: (CODE_OF[array.dtype], array.shape) for name, array in arrays.items()}) as writer:
        for begin in range(0, n + 1, 300):
            for name in ("locations", "activations"):
                writer.append(name, arrays[name][begin : begin + 300])
            assert not path.exists()
        writer.append("offsets", arrays["offsets"])
    assert path.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert {name: array.tolist() for name, array in load_file(path).items()} == {
        name: array.tolist() for name, array in arrays.items()
    }
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_bfloat16_is_written_and_read_as_torch_does(tmp_path: Path) -> None:
    values = torch.randn(50, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    save_tensors({"a": values}, tmp_path / "torch.safetensors")
    path = tmp_path / "ours.safetensors"
    with ArrayWriter(path, {"a": ("BF16", (50,))}) as writer:
        writer.append("a", values.view(torch.uint16).numpy())
    assert path.read_bytes() == (tmp_path / "torch.safetensors").read_bytes()
    assert torch.equal(load_tensors(path)["a"], values)
    file = ArrayFile(path)
    assert (file.code("a"), file.shape("a")) == ("BF16", (50,))
    assert file.read("a", 10, 20).tolist() == values.view(torch.uint16)[10:20].tolist()


def test_an_incomplete_file_never_gets_its_name(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"

    def write(n: int, error: Exception | None = None) -> None:
        with ArrayWriter(path, {"a": ("I64", (4,))}) as writer:
            writer.append("a", np.arange(n))
            if error is not None:
                raise error

    with pytest.raises(RuntimeError, match="stopped"):
        write(2, RuntimeError("stopped"))
    with pytest.raises(AssertionError, match="not complete"):
        write(3)
    with pytest.raises(AssertionError, match="a is int64, got float64"), ArrayWriter(path, {"a": ("I64", (1,))}) as w:
        w.append("a", np.zeros(1))
    assert list(tmp_path.iterdir()) == []
    write(4)
    assert load_file(path)["a"].tolist() == [0, 1, 2, 3]


def test_slices_may_be_empty_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_arrays(path, {"a": np.arange(5, dtype=np.uint32), "none": np.empty(0, np.float16), "b": np.ones((2, 3))})
    file = ArrayFile(path)
    for begin, end in [(0, 0), (2, 2), (5, 5), (0, 5), (3, 5)]:
        found = file.read("a", begin, end)
        assert found.dtype == np.uint32
        assert found.tolist() == list(range(begin, end))
        assert file.mapped("a")[begin:end].tolist() == list(range(begin, end))
    assert file.read("none").dtype == file.mapped("none").dtype == np.float16
    assert file.mapped("none").shape == (0,)
    assert (file.shape("b"), file.mapped("b").shape) == ((2, 3), (2, 3))
    assert not file.mapped("a").flags.writeable


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(CacheError, match=r"x\.safetensors cannot be read .*No such file"):
        ArrayFile(path)
    for content in (b"", b"short", b"not a safetensors file", (50).to_bytes(8, "little") + b"{}"):
        path.write_bytes(content)
        with pytest.raises(CacheError, match=r"x\.safetensors cannot be read .* delete"):
            ArrayFile(path)
    write_arrays(path, {"a": np.arange(5)})
    file = ArrayFile(path)
    with pytest.raises(CacheError, match=r"x\.safetensors cannot be read \(it has no array 'b'\)"):
        file.read("b")
    with pytest.raises(CacheError, match="elements 3 to 6 of 'a' are asked for, which has 5"):
        file.read("a", 3, 6)
    with pytest.raises(CacheError, match=r"'a' is I64\[5\] where the cache has U32\[5\]: it is damaged or foreign"):
        file.require({"a": ("U32", (5,))})


@pytest.mark.parametrize("n_lost", [1, 8, 39, 40, 41, 60])
def test_every_truncation_is_found(n_lost: int, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_arrays(path, {"a": np.arange(5)})
    open_file, content = ArrayFile(path), path.read_bytes()
    path.write_bytes(content[:-n_lost])
    with pytest.raises(CacheError, match=r"x\.safetensors cannot be read"):
        ArrayFile(path)
    with pytest.raises(CacheError, match=r"x\.safetensors cannot be read"):
        open_file.read("a")
    with pytest.raises(CacheError, match=r"x\.safetensors cannot be read"):
        open_file.mapped("a")


@pytest.mark.parametrize(
    "header",
    [
        "[]",
        "{",
        "3",
        '"a"',
        '{"a": 1}',
        '{"a": {"dtype": "I64", "shape": [2]}}',
        '{"a": {"dtype": "X9", "shape": [2], "data_offsets": [0, 16]}}',
        '{"a": {"dtype": "I64", "shape": [2], "data_offsets": [0, 8]}}',
        '{"a": {"dtype": "I64", "shape": [-2], "data_offsets": [0, -16]}}',
        '{"a": {"dtype": "I64", "shape": ["x"], "data_offsets": [0, 16]}}',
        '{"a": {"dtype": "I64", "shape": [1], "data_offsets": [8, 16]}}',
        '{"a": {"dtype": "I64", "shape": [2], "data_offsets": [0, 16]},'
        ' "b": {"dtype": "I64", "shape": [1], "data_offsets": [8, 16]}}',
        '{"a": {"dtype": "I64", "shape": [9], "data_offsets": [0, 72]}}',
    ],
)
def test_a_header_that_does_not_fit_the_file_is_found(header: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(16))
    with pytest.raises(CacheError, match=r"x\.safetensors cannot be read"):
        ArrayFile(path)


def test_a_flipped_bit_of_the_header_is_found_or_changes_nothing_but_names(tmp_path: Path) -> None:
    """Types and shapes must fill the file exactly, so that damage there cannot lead to wrong slices unnoticed."""
    path = tmp_path / "x.safetensors"
    arrays = {"locations": np.arange(5, dtype=np.uint32), "offsets": np.arange(3)}
    write_arrays(path, arrays)
    expected = {"locations": ("U32", (5,)), "offsets": ("I64", (3,))}
    content = path.read_bytes()
    n_header = 8 + int.from_bytes(content[:8], "little")
    assert json.loads(content[8:n_header])
    for bit in range(8 * n_header):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            file = ArrayFile(path)
            file.require(expected)
        except CacheError:
            continue
        assert {name: file.read(name).tolist() for name in arrays} == {n: a.tolist() for n, a in arrays.items()}


def test_full_disks_are_named_and_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CacheError, match=r"x\.safetensors cannot be written .*No space left.* make room"):
        write_arrays(tmp_path / "x.safetensors", {"a": np.arange(5)})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CacheError, match=r"x\.safetensors cannot be written"):
        write_arrays(tmp_path / "missing" / "x.safetensors", {"a": np.arange(5)})
