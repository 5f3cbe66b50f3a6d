"""Texts made by atheris for every reader: `python -m tests.prompting.fuzz_replies FOLDER -max_total_time=600`.

Coverage of the readers guides what is tried. No text may be an error, take long for its length, or come to another
number of verdicts than asked; words behind a whole object with the requested key must change nothing.
"""

import json
import sys
import time
from pathlib import Path

import atheris  # pyright: ignore[reportMissingImports, reportMissingModuleSource]  # `make soak` has it

READ_BY = ["sae_auto_interp.prompting", "sae_auto_interp.judges", "sae_auto_interp.scorers"]
with atheris.instrument_imports(include=READ_BY):  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    from tests.prompting.properties import TASKS, check_appended, check_reading

SECONDS_PER_CHARACTER = 1e-3
FEWEST_SECONDS = 2.0


def try_one(data: bytes) -> None:
    """One text, read by one of the tasks' readers."""
    if len(data) < 3:
        return
    task, reason, text = TASKS[data[0] % len(TASKS)], data[1] % 2, data[2:].decode("utf-8", "surrogateescape")
    begin = time.process_time()
    check_reading(task, text, "length" if reason else "stop")
    check_appended(task, text)
    seconds = time.process_time() - begin
    assert seconds < FEWEST_SECONDS + SECONDS_PER_CHARACTER * len(text), f"{seconds:.1f} s for {len(text)} characters"


def seeds(folder: Path) -> None:
    """The samples of replies.json as a first corpus."""
    lines = Path(__file__).with_name("replies.json").read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(line for line in lines if line.startswith("{")):
        reply = json.loads(line.rstrip(",")).get("reply", "")
        (folder / f"{number}").write_bytes(bytes([number % 256, 0]) + reply.encode("utf-8", "surrogatepass"))


if __name__ == "__main__":
    corpus = Path(sys.argv.pop(1))
    seeds(corpus)
    atheris.Setup([*sys.argv, str(corpus)], try_one)
    atheris.Fuzz()
