"""Records built by other processes: the same ones, in order, and nothing is left behind however it ends."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sae_auto_interp.errors import InputError, UnknownNameError, WorkerError
from sae_auto_interp.features import FeatureConfig, FeatureDataset, FeatureLoader, max_activation_pooling_sampler
from sae_auto_interp.features.config import Windows
from sae_auto_interp.types import Example, Failure, FeatureId, FeatureRecord, TokenRows
from tests.support.records import Entry, make_rows, write_cache

MODULE = "transformer.h.1"
WIDTH = 12
CFG: dict[str, Any] = {"window": 8, "n_train": 10, "n_test": 10, "n_quantiles": 5, "min_examples": 10}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TokenRows]:
    """Features of which the last three never fire, with padding and several rows to a document."""
    rows = make_rows(200, 33, bos=1, vocab=30_000, rows_per_document=4)
    rng = np.random.default_rng(0)
    fires = (rng.random((200, 33, WIDTH - 3)) < 0.05) & (rows.documents >= 0)[:, :, None]
    entries: list[Entry] = [(r, p, f, float(rng.integers(1, 9))) for r, p, f in np.argwhere(fires).tolist()]
    root = write_cache(tmp_path_factory.mktemp("prefetch"), rows, {MODULE: entries}, width=WIDTH)
    return root, rows


def loader_of(cache: tuple[Path, TokenRows], windows: Windows = "grid", constructor: Any = None) -> FeatureLoader:
    return FeatureLoader(cache[1], FeatureDataset(cache[0], FeatureConfig(windows=windows, **CFG)), constructor)


def flat(outcome: FeatureRecord | Failure) -> Any:
    """All of a record, as plain values."""
    if isinstance(outcome, Failure):
        return outcome

    def values(example: Example) -> Any:
        names = ("row", "start", "document", "source", "quantile", "str_tokens")
        arrays = example.tokens.tolist(), example.activations.tolist()
        return [getattr(example, name) for name in names], arrays

    silent = outcome.non_activating
    return outcome.feature, outcome.stats, [
        [values(example) for example in pool] for pool in (outcome.train, outcome.test, silent.explain, silent.test)
    ]  # fmt: skip


FEATURES = [FeatureId(MODULE, index) for index in (3, 0, 11, 7, 1, 2, 10, 4)]


@pytest.mark.parametrize(
    ("workers", "ahead", "windows"), [(0, None, "grid"), (1, 1, "grid"), (2, None, "grid"), (2, 20, "centred")]
)
def test_records_are_the_same_and_in_order_whoever_builds_them(
    workers: int, ahead: int | None, windows: Windows, cache: tuple[Path, TokenRows]
) -> None:
    loader = loader_of(cache, windows)
    found = list(loader.prefetch(FEATURES, workers=workers, ahead=ahead))
    assert [flat(outcome) for outcome in found] == [flat(loader.build(feature)) for feature in FEATURES]
    assert [isinstance(outcome, Failure) for outcome in found] == [f.index >= WIDTH - 3 for f in FEATURES]
    assert not multiprocessing.active_children()


def test_without_a_list_it_goes_through_the_dataset(cache: tuple[Path, TokenRows]) -> None:
    loader = loader_of(cache)
    found = [outcome.feature for outcome in loader.prefetch(workers=0) if isinstance(outcome, FeatureRecord)]
    assert found == loader.dataset.features


def test_no_process_is_left_when_the_consumer_stops_early(cache: tuple[Path, TokenRows]) -> None:
    records = loader_of(cache).prefetch(FEATURES * 50, workers=2)
    assert not multiprocessing.active_children()  # nothing starts before it is asked for
    next(records)
    assert len(multiprocessing.active_children()) == 2
    records.close()
    assert not multiprocessing.active_children()


def test_no_more_is_asked_for_than_wanted(cache: tuple[Path, TokenRows]) -> None:
    asked: list[FeatureId] = []

    def features() -> Any:
        for feature in FEATURES * 50:
            asked.append(feature)
            yield feature

    records = loader_of(cache).prefetch(features(), workers=1, ahead=3)
    for n in range(1, 5):
        next(records)
        assert len(asked) == n + 2
    records.close()


def test_an_error_of_a_process_is_raised_as_what_it_is(cache: tuple[Path, TokenRows]) -> None:
    records = loader_of(cache).prefetch([FEATURES[0], FeatureId("transformer.h.2", 0)], workers=1)
    assert isinstance(next(records), FeatureRecord)
    with pytest.raises(UnknownNameError, match=f"did you mean '{MODULE}'"):
        next(records)
    assert not multiprocessing.active_children()


def test_a_process_that_is_killed_is_an_error(cache: tuple[Path, TokenRows]) -> None:
    records = loader_of(cache).prefetch(FEATURES * 500, workers=1, ahead=2)
    next(records)
    multiprocessing.active_children()[0].kill()
    with pytest.raises(WorkerError, match="ended early; was it killed for memory"):
        for _ in records:
            pass
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("settings", "message"), [({"workers": -1}, "workers=-1"), ({"workers": 1, "ahead": 0}, "ahead=0; give at least 1")]
)
def test_impossible_numbers_are_refused(settings: Any, message: str, cache: tuple[Path, TokenRows]) -> None:
    with pytest.raises(InputError, match=message):
        loader_of(cache).prefetch(**settings)


def test_a_constructor_that_cannot_be_sent_is_refused(cache: tuple[Path, TokenRows]) -> None:
    loader = loader_of(cache, constructor=lambda entries, grid: max_activation_pooling_sampler(entries, grid))
    with pytest.raises(
        InputError, match="cannot be sent to other processes; give a function of a module, or workers=0"
    ):
        loader.prefetch(workers=1)


PROGRAM = """
import multiprocessing, signal, sys, time
import numpy as np
from sae_auto_interp.features import FeatureConfig, FeatureDataset, FeatureLoader
from sae_auto_interp.types import TokenRows

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background inherit that it is ignored
    rows = TokenRows(*(np.load(f"{sys.argv[2]}/{name}.npy") for name in ("tokens", "documents")), ("",) * 51)
    dataset = FeatureDataset(sys.argv[1], FeatureConfig(window=8, n_train=10, n_test=10, min_examples=10))
    for _ in FeatureLoader(rows, dataset).prefetch(dataset.features * 100_000, workers=2):
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(os.name == "nt", reason="signals to a process group")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_processes_end_with_the_one_that_started_them(
    sent: signal.Signals, cache: tuple[Path, TokenRows], tmp_path: Path
) -> None:
    """Ctrl-C reaches the whole group, as from a terminal; a kill only the parent."""
    root, rows = cache
    for name in ("tokens", "documents"):
        np.save(tmp_path / f"{name}.npy", getattr(rows, name))
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "rows").mkdir()
    program = subprocess.Popen(
        [sys.executable, tmp_path / "program.py", root, tmp_path], text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"TMPDIR": str(tmp_path / "rows")},
    )  # fmt: skip
    assert program.stdout is not None
    pids = [int(pid) for pid in program.stdout.readline().split()]
    assert len(pids) == 2
    if sent == signal.SIGINT:
        os.killpg(program.pid, sent)
    else:
        program.kill()
    _, errors = program.communicate(timeout=120)  # on a busy machine a process may still be starting
    waited_until = time.monotonic() + 60
    while any(map(is_running, pids)) and time.monotonic() < waited_until:
        time.sleep(0.02)
    assert not any(map(is_running, pids))
    assert not list((tmp_path / "rows").iterdir())
    assert errors.count("Traceback") == (sent == signal.SIGINT), errors
    assert ("KeyboardInterrupt" in errors) == (sent == signal.SIGINT)
