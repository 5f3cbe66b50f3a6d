"""Batches on their way: the same bytes whatever reads the activations and however far ahead it runs; no waiting."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sae_auto_interp.autoencoders.encoding import encoder as encoder_module
from sae_auto_interp.autoencoders.encoding.encoder import is_sound
from sae_auto_interp.autoencoders.encoding.host_copy import HostCopy
from sae_auto_interp.cache.write_buffer import WriteBuffer
from sae_auto_interp.errors import CacheError, InputError
from sae_auto_interp.features import CacheOptions, FeatureCache
from sae_auto_interp.features.caching.code_stream import CodeStream, PendingBatch, rows_per_batch
from sae_auto_interp.types import TokenRows
from tests.support.records import (
    WIDTH,
    directory_bytes,
    lookup_world,
    tiny_coder,
    tiny_coders,
    tiny_gpt2,
)


def files(
    world: tuple[Any, dict[str, Any]], rows: TokenRows, directory: Path, batch_size: int | None = 3, **options: Any
) -> dict[str, bytes]:
    cache = FeatureCache(*world, batch_size=batch_size, options=CacheOptions(**options))
    cache.run(tokens=rows)
    cache.save_splits(3, directory)
    return directory_bytes(directory)


def test_both_backends_write_the_same_bytes(world: tuple[Any, dict[str, Any]], rows: TokenRows, tmp_path: Path) -> None:
    hooks = files(world, rows, tmp_path / "hooks")
    assert hooks == files(world, rows, tmp_path / "nnsight", backend="nnsight")
    assert len(hooks) == 3 * (3 + 2)


def test_running_ahead_changes_no_byte(
    world: tuple[Any, dict[str, Any]], rows: TokenRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = files(world, rows, tmp_path / "now")
    begun: list[tuple[int, int]] = []
    three_begun = threading.Event()
    begin, entries = CodeStream.begin, PendingBatch.entries

    def counted(self: CodeStream, rows: TokenRows, first: int, last: int) -> PendingBatch:
        begun.append((first, last))
        if len(begun) == 3:
            three_begun.set()
        return begin(self, rows, first, last)

    def awaited(self: PendingBatch) -> Any:
        assert three_begun.wait(30), "the first batch is asked for its entries while two more are begun"
        return entries(self)

    monkeypatch.setattr(CodeStream, "batches_ahead", lambda self, n_tokens: 2)
    monkeypatch.setattr(CodeStream, "begin", counted)
    monkeypatch.setattr(PendingBatch, "entries", awaited)
    assert files(world, rows, tmp_path / "later") == expected
    assert begun == [(0, 3), (3, 6), (6, 9), (9, 11)]


def test_as_many_batches_wait_as_a_bounded_number_of_tokens_is_in() -> None:
    stream = CodeStream(tiny_gpt2(), {f"transformer.h.{i}": tiny_coder("topk") for i in range(2)}, {}, "hooks")
    assert stream.batches_ahead(8192) == 0
    stream._device = torch.device("cuda")
    assert [stream.batches_ahead(n) for n in (100, 4096, 8192, 10_000, 65_536)] == [8, 4, 2, 1, 1]


def test_what_cannot_be_stored_ends_the_run_and_nothing_is_stored_behind_it(
    world: tuple[Any, dict[str, Any]], rows: TokenRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = files(world, rows, tmp_path / "expected")
    options: dict[str, Any] = {"work_dir": tmp_path / "work", "buffer_mib": 0}
    monkeypatch.setattr(CodeStream, "batches_ahead", lambda self, n_tokens: 2)
    commit = WriteBuffer.commit

    def full(self: WriteBuffer, rows_done: int, *, last: bool = False) -> None:
        if rows_done == 6:
            raise CacheError("the disk is full")
        commit(self, rows_done, last=last)

    monkeypatch.setattr(WriteBuffer, "commit", full)
    with pytest.raises(CacheError, match="the disk is full"):
        files(world, rows, tmp_path / "stopped", **options)
    monkeypatch.setattr(WriteBuffer, "commit", commit)
    begun: list[int] = []
    begin = CodeStream.begin
    monkeypatch.setattr(
        CodeStream, "begin", lambda self, rows, *range_: begun.append(range_[0]) or begin(self, rows, *range_)
    )
    assert files(world, rows, tmp_path / "resumed", **options) == expected
    assert begun == [3, 6, 9]


@pytest.mark.parametrize("n_threads", [1, 2])
def test_the_batch_size_and_the_number_of_threads_change_no_byte(
    n_threads: int, world: tuple[Any, dict[str, Any]], rows: TokenRows, tmp_path: Path
) -> None:
    expected = files(world, rows, tmp_path / "all", batch_size=rows.n_rows)
    torch.set_num_threads(n_threads)
    try:
        for batch_size in range(1, 8):
            assert files(world, rows, tmp_path / str(batch_size), batch_size=batch_size) == expected, batch_size
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("hidden", "heads", "ctx_len", "device", "expected"),
    [(128, 4, 256, "cpu", 25), (768, 12, 1024, "cpu", 1), (768, 12, 128, "cpu", 12), (64, 2, 64, "cuda", 256)],
)
def test_batches_fit_their_memory(hidden: int, heads: int, ctx_len: int, device: str, expected: int) -> None:
    from types import SimpleNamespace

    config = SimpleNamespace(hidden_size=hidden, num_attention_heads=heads)
    assert rows_per_batch(config, ctx_len, device) == expected
    assert rows_per_batch(SimpleNamespace(text_config=config), ctx_len, device) == expected
    assert rows_per_batch(None, 128, "cpu") == 12


def test_a_model_in_bfloat16_is_encoded_in_float32(rows: TokenRows, tmp_path: Path) -> None:
    import nnsight

    from sae_auto_interp.autoencoders.attach import attach
    from sae_auto_interp.cache.reader import CacheReader

    model = nnsight.NNsight(tiny_gpt2().bfloat16())
    attached = attach(model, tiny_coders())
    files((model, attached), rows, tmp_path, activation_dtype="float32")
    values = np.concatenate(
        [CacheReader(tmp_path / "transformer.h.0.attn").entries(i).activations for i in range(WIDTH)]
    )
    rounded = torch.from_numpy(values).bfloat16().float().numpy()
    assert (values != rounded).mean() > 0.9, "codes are not rounded to the model's type"


def test_an_offloaded_model_is_cached_as_if_it_were_in_memory(rows: TokenRows, tmp_path: Path) -> None:
    import nnsight
    from accelerate import cpu_offload

    from sae_auto_interp.autoencoders.attach import attach

    def world_of(model: Any) -> tuple[Any, dict[str, Any]]:
        wrapped = nnsight.NNsight(model)
        return wrapped, attach(wrapped, tiny_coders())

    expected = files(world_of(tiny_gpt2()), rows, tmp_path / "plain")
    offloaded = world_of(cpu_offload(tiny_gpt2(), execution_device=torch.device("cpu")))
    assert next(offloaded[0]._module.parameters()).device.type == "meta"
    assert files(offloaded, rows, tmp_path / "offloaded") == expected


def test_one_module_is_encoded_while_no_other_is_in_memory(rows: TokenRows, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three modules' activations, the earlier ones are gone when a later one is encoded."""
    import weakref

    alive: list[weakref.ref[Any]] = []
    others: list[int] = []
    encode = CodeStream._encode

    def watched(self: CodeStream, path: str, activations: Any, text: Any) -> HostCopy:
        others.append(sum(reference() is not None for reference in alive))
        alive.append(weakref.ref(activations))
        return encode(self, path, activations, text)

    monkeypatch.setattr(CodeStream, "_encode", watched)
    coders = {f"transformer.h.{layer}.mlp": tiny_coder("topk") for layer in range(3)}
    CodeStream(tiny_gpt2(n_layers=3), coders, {}, "hooks").begin(rows, 0, 4)
    assert others == [0, 0, 0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e25])
def test_unsound_activations_are_named_when_their_batch_arrives(value: float) -> None:
    model, attached = lookup_world([[1, 2, 0], [value, 3, 0]])
    stream = CodeStream(model, {"site": attached["site"].ae._module}, {}, "hooks")
    sound, unsound = (stream.begin(TokenRows.from_ids([[token]]), 0, 1) for token in (0, 1))
    assert [found.features.tolist() for found in sound.entries()] == [[0, 1]]
    with pytest.raises(InputError, match="site gives NaN, infinite or enormous activations"):
        list(unsound.entries())


def test_an_infinity_in_float16_is_no_silent_token() -> None:
    """Normalised it would be NaN, which is above no threshold."""
    model, attached = lookup_world([[1, 2, 0], [float("inf"), 3, 0]])
    coder = attached["site"].ae._module
    coder.settings = replace(coder.settings, normalisation="layer_norm")
    stream = CodeStream(model.half(), {"site": coder.float()}, {}, "hooks")
    with pytest.raises(InputError, match="site gives NaN, infinite or enormous activations"):
        list(stream.begin(TokenRows.from_ids([[1]]), 0, 1).entries())


def test_entries_that_stand_for_none_and_features_not_kept_are_left_out() -> None:
    """What a GPU hands over has n·k entries, some of them zero."""
    is_kept = np.array([True, False, True])
    batch = PendingBatch(1, np.array([10, 20]), {"filtered": is_kept})
    copies = [torch.tensor(True), torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 2]), torch.tensor([5.0, 0, 3, 2])]
    batch.add("all", HostCopy(copies))
    batch.add("filtered", HostCopy(copies))
    found = {
        e.module_path: (e.features.tolist(), e.locations.tolist(), e.activations.tolist()) for e in batch.entries()
    }
    assert found == {
        "all": ([0, 1, 2], [10, 20, 20], [5, 3, 2]),
        "filtered": ([0, 2], [10, 20], [5, 2]),
    }


def test_a_top_k_on_a_device_never_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors without values refuse every operation for which a host would have to wait for some."""
    monkeypatch.setattr(encoder_module, "BLOCK_ENTRIES_ON_DEVICE", WIDTH * 3)
    coder = tiny_coder("topk", normalisation="layer_norm").to("meta")
    x = torch.empty(10, 16, device="meta", dtype=torch.bfloat16)
    code = coder.encoder().encode(x)
    assert [tuple(t.shape) for t in (code.positions, code.features, code.values)] == [(50,)] * 3
    assert is_sound(x).shape == ()
    with pytest.raises((NotImplementedError, RuntimeError)):
        bool(is_sound(x))
    with pytest.raises((NotImplementedError, RuntimeError)):
        code.values.nonzero()
