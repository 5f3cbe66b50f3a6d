"""The command line called in this process: what it exits with and what it says, without the start of another Python."""

import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path

from sae_auto_interp.cli import main


@dataclass(frozen=True)
class Said:
    """How a call ended."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """Its one line that begins with `error: `, which is the last."""
        errors = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, self.err
        assert self.err.splitlines()[-1] == errors[0]
        return errors[0]


def call(*arguments: str | Path) -> Said:
    """Call the command with these arguments; an exception that would be a traceback is raised here."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    before = sys.argv
    sys.argv = ["sae-auto-interp", *map(str, arguments)]
    status: object = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as left:
        status = left.code
    finally:
        sys.argv = before
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]  # pyright: ignore[reportAttributeAccessIssue]
    return Said(status if isinstance(status, int) else 0, *texts)
