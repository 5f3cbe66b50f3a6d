import time

import numpy as np
import pytest

from benchmarks.measured import bytes_below, measured


def test_peak_and_time_are_those_of_the_body() -> None:
    np.ones(32 << 20)  # 256 MiB before, freed: none of it counts
    with measured() as taken:
        np.ones(8 << 20)  # 64 MiB
        time.sleep(0.05)
    if taken.peak_covers_loading:
        pytest.skip("this system does not let a process forget its peak")
    assert 0.05 < taken.seconds < 10
    assert taken.above_loaded_mib == pytest.approx(64, abs=16)


def test_bytes_below_counts_every_file(tmp_path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(b"12345")
    (tmp_path / "a" / "b" / "two").write_bytes(b"123")
    assert bytes_below(tmp_path) == 8
