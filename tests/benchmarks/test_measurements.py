"""Every measured program of ours and of the bare limit at tiny sizes, in this process."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import benchmarks.bare.caching
import benchmarks.bare.gpu
import benchmarks.ours.caching
import benchmarks.ours.gpu
import benchmarks.ours.neighbours
import benchmarks.ours.reading
import benchmarks.ours.records
from benchmarks.build_workload import prepare
from benchmarks.records import COUNTS
from benchmarks.stores import Store, prepare_store
from benchmarks.workload import TOKENS, Activation, Workload

TINY = Workload(width=256, n_tokens=2048, d_model=32, vocab=300, ctx_len=64, k=8)
BATCHES = {"batch_rows": 8, "n_splits": 5}


def caching_settings(workload: Workload, **others: Any) -> dict[str, Any]:
    return workload.as_settings(**BATCHES, **others)


@pytest.mark.parametrize("heavy", [False, True])
def test_caching_keeps_k_activations_of_every_token(tmp_path: Path, heavy: bool) -> None:
    workload = replace(TINY, heavy=heavy)
    result = benchmarks.ours.caching.measure(caching_settings(workload), prepare(workload, tmp_path))
    assert result["cached_tokens"] == 2048
    assert result["n_activations"] == 2048 * 8
    assert result["tokens_per_second"] == pytest.approx(2048 / result["seconds"], rel=0.05)


@pytest.mark.parametrize("activation", ["relu", "jumprelu"])
def test_thresholds_let_about_k_features_fire(tmp_path: Path, activation: Activation) -> None:
    workload = replace(TINY, activation=activation)
    result = benchmarks.ours.caching.measure(caching_settings(workload), prepare(workload, tmp_path))
    assert 4 < result["n_activations"] / 2048 < 16


def test_computing_all_layers_finds_the_same(tmp_path: Path) -> None:
    workload = replace(TINY, n_layers=4)
    folder = prepare(workload, tmp_path)
    stopped, whole = (
        benchmarks.ours.caching.measure(caching_settings(workload, all_layers=all_layers), folder)
        for all_layers in (False, True)
    )
    assert stopped["n_activations"] == whole["n_activations"]


@pytest.mark.parametrize("activation", ["topk", "jumprelu"])
def test_the_bare_limit_is_measured(tmp_path: Path, activation: Activation) -> None:
    workload = replace(TINY, activation=activation)
    result = benchmarks.bare.caching.measure(caching_settings(workload), prepare(workload, tmp_path))
    assert result["seconds"] == pytest.approx(result["forward_seconds"] + result["product_seconds"], abs=1e-3)
    assert result["one_product_seconds"] > 0


def test_a_workload_is_made_once_and_always_the_same(tmp_path: Path) -> None:
    first, second = (prepare(TINY, tmp_path / name) for name in ("a", "b"))
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(files) >= 5
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in files)
    before = (first / TOKENS).stat().st_mtime_ns
    assert prepare(TINY, tmp_path / "a") == first
    assert (first / TOKENS).stat().st_mtime_ns == before
    assert prepare(replace(TINY, heavy=True), tmp_path / "a") != first


def test_tokens_are_zipfian(tmp_path: Path) -> None:
    tokens = np.load(prepare(TINY, tmp_path) / TOKENS)
    counts = np.bincount(tokens.ravel(), minlength=300)
    assert tokens.shape == (32, 64)
    assert counts[0] == pytest.approx(2 * counts[1], rel=0.3)


def test_reading_and_records_of_a_made_up_store(tmp_path: Path) -> None:
    store = Store(width=64, n_tokens=8192, ctx_len=64, k=4)
    folder = prepare_store(store, tmp_path)
    read = benchmarks.ours.reading.measure(asdict(store) | {"n_features": 20}, folder)
    assert read["n_read"] == 20
    assert read["n_activations"] == pytest.approx(8192 * 4, rel=0.05)
    assert read["median_ms"] <= read["p95_ms"] <= read["longest_ms"]
    counts = COUNTS | {"min_examples": 50, "n_features": 3}
    made = benchmarks.ours.records.measure(asdict(store) | counts, folder)
    assert made["records"] == 3
    assert made["first_record_seconds"] <= made["seconds"]
    assert 100 < made["examples_per_record"] <= 140


@pytest.mark.parametrize(("activation", "tolerance"), [("topk", 0.01), ("jumprelu", 0.3)])
def test_the_gpus_programs_run_on_a_cpu_too(activation: str, tolerance: float, tmp_path: Path) -> None:
    settings = {"model": "tiny", "width": 256, "n_tokens": 1024, "ctx_len": 64, "k": 8, "device": "cpu"} | BATCHES
    settings |= {"activation": activation}
    ours = benchmarks.ours.gpu.measure(settings, tmp_path / "gpu")
    assert ours["tokens_per_second"] > 0
    assert ours["activations_per_token"] == pytest.approx(8, rel=tolerance)
    assert benchmarks.bare.gpu.measure(settings, tmp_path / "gpu")["tokens_per_second"] > 0


def test_neighbours_of_a_coder_and_of_a_made_up_store(tmp_path: Path) -> None:
    coder = prepare(TINY, tmp_path)
    cosine = benchmarks.ours.neighbours.measure(TINY.as_settings(kind="decoder", n=5, n_features=256), coder)
    assert (cosine["n_features_done"], cosine["n_neighbours"]) == (256, 256 * 5)
    store = Store(width=64, n_tokens=2048, ctx_len=64, k=4)
    settings = asdict(store) | {"kind": "jaccard", "n": 5, "n_features": 10}
    together = benchmarks.ours.neighbours.measure(settings, prepare_store(store, tmp_path))
    assert (together["n_features_done"], together["n_neighbours"]) == (10, 50)
