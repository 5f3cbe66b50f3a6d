"""What holds for every reader of replies, whatever the text: its time, its number of answers, and that it ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from tests.prompting.properties import TASKS, WHOLE, check_appended, check_reading, read

IS_SOAK = bool(os.environ.get("SAE_AUTO_INTERP_SOAK"))
FUZZ_SECONDS = 600
N_EXAMPLES = 100 if IS_SOAK else 20
N_CHARACTERS = 100_000 if IS_SOAK else 5_000
SIGNS = [*"[]{}(),;:'`|?.*-", '"', "“", "\\", "\n", "\r", "\t", " ", "```json\n", "```", "//", "# ", "- ", "\\boxed{"]
WORDS = ["true", "No", "yes", "None", "null", "NaN", "Final: ", "Answer", "e.g. ", "not ", "and", "none", "Excerpt 2: "]
NUMBERS = ["1", "0", "2", "3", "1.0", "1e999", "9" * 5000, "1. ", "2) ", "2-3", "１", "²"]  # noqa: RUF001
VALUES = [
    '"verdict"', '{"excerpt": 1, "fits": 0}', '"level": 3', '{"token": "the", "level": 0}', "{1: 1, 2: 0, 3: 1}",
    "[1, 0, 1]", '["a", "b", "c"]', "\ud800", "\x00", "\ufeff", "\u2028", "\\u0022",
]  # fmt: skip
PIECES = [*SIGNS, *WORDS, *NUMBERS, *VALUES]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=30).map("".join) | st.text()
KEYS = ['"verdicts": ', '"choice": ', '"tokens": ', '"texts": ', '{"verdicts": [1, 0, 1]}', '{"choice": 2}']
KEYED = st.sampled_from(KEYS)
KEYED_TEXTS = st.lists(st.sampled_from(PIECES) | KEYED, max_size=30).map("".join)


@pytest.mark.parametrize("task", TASKS)
@settings(deadline=None, max_examples=N_EXAMPLES)
@given(text=TEXTS | KEYED_TEXTS, reason=st.sampled_from(["stop", "length", "content_filter", "", "unknown"]))
def test_no_text_is_an_error_or_gives_another_number_of_answers(task: str, text: str, reason: str) -> None:
    check_reading(task, text, reason)


@pytest.mark.parametrize("task", [*WHOLE])
@settings(deadline=None, max_examples=N_EXAMPLES)
@given(text=TEXTS)
def test_text_behind_a_whole_object_changes_nothing(task: str, text: str) -> None:
    check_appended(task, text)


TIMING = """
import sys, time
from tests.prompting.properties import read
from tests.prompting.test_json_in_text import HOSTILE
task, n_characters = sys.argv[1], int(sys.argv[2])
more = ["1. 1\\n", "Excerpt 1: ", "1, ", "2-", "None ", "9\\n", "|", "Final: ", "1 ", "not ", "e.g. ", "True,", "(1) "]
def seconds(text):
    begin = time.process_time()
    read(task, text)
    return time.process_time() - begin
for number, shape in enumerate([*HOSTILE, *more]):
    for wrapped in ("{}", ('"{}"', '{{"verdicts": ["choice": [{}')[number % 2]):
        small, large = (wrapped.format((shape * n)[:n]) for n in (n_characters, 10 * n_characters))
        first, second = seconds(small), seconds(large)
        if second > 25 * max(first, seconds(small) if second > 25 * max(first, 0.1) else 0, 0.1):
            print(ascii(shape), wrapped, first, second)
"""


@pytest.mark.parametrize("task", TASKS)
def test_ten_times_the_text_takes_some_ten_times_as_long(task: str) -> None:
    """Each hostile shape, in a process that checks no types; less than 100 ms may be noise. `make soak` takes 1 MB."""
    found = subprocess.run(
        [sys.executable, "-c", TIMING, task, str(N_CHARACTERS)], capture_output=True, text=True, timeout=600, check=True
    )
    assert found.stdout == ""


@pytest.mark.skipif(not IS_SOAK, reason="ten minutes: SAE_AUTO_INTERP_SOAK=1")
def test_ten_minutes_of_fuzzing_find_nothing(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    command = [sys.executable, "-m", "tests.prompting.fuzz_replies", str(tmp_path), f"-max_total_time={FUZZ_SECONDS}"]
    options = ["-max_len=2000", "-timeout=60", f"-artifact_prefix={tmp_path}/"]
    found = subprocess.run([*command, *options], capture_output=True, text=True, timeout=2 * FUZZ_SECONDS)
    assert found.returncode == 0, found.stderr[-4000:]


def test_the_properties_are_of_something() -> None:
    assert all(read(task, str(WHOLE[task]).replace("'", '"')) for task in WHOLE)
