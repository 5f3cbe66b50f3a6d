"""The command line: parse, build the configuration, call the pipeline, print. No logic of its own.

Every mistake of a user ends in one line on standard error and exit status 2; an interruption says how to resume and
ends with 130 (ctrl-C) or 143 (SIGTERM).
"""

import errno
import sys

import typer
from typer.exceptions import TyperException

from sae_auto_interp.cli import caches, measures, run_files, runs
from sae_auto_interp.cli.app import app
from sae_auto_interp.errors import PreflightError, RunInterruptedError, SaeAutoInterpError

__all__ = ["app", "caches", "main", "measures", "run_files", "runs"]

SIGNALLED = 128
"""Added to a signal's number: the exit status of what it ended, as shells count it."""
INTERRUPTED = SIGNALLED + 2
"""After ctrl-C."""
DISK_TROUBLES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)
"""Full, over quota, or not ours to write: a user's to mend, unlike other trouble with files."""


def main() -> None:
    """Entry point: turns every error of ours into one line and an exit status."""
    try:
        status = app(standalone_mode=False)
    except PreflightError as error:
        status = max(_fail(message) for message in error.messages)
    except RunInterruptedError as error:
        print(error, file=sys.stderr)
        sys.exit(SIGNALLED + error.signal)
    except SaeAutoInterpError as error:
        status = _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except OSError as error:
        if error.errno not in DISK_TROUBLES:
            raise
        status = _fail(
            f"{error.strerror}: {error.filename or 'while writing'}; what is finished is kept: run again once mended"
        )
    except TyperException as error:
        status = _usage_error(error)
    if status == INTERRUPTED:  # typer itself may have turned ctrl-C into this status
        print("interrupted; nothing finished is lost: run the same command again to go on", file=sys.stderr)
    sys.exit(status if isinstance(status, int) else 0)


def _usage_error(error: TyperException) -> int:
    """Typer's complaints about the command line, in our form; none when it has printed the help instead."""
    say = getattr(error, "format_message", None)
    message = say() if say else str(error)
    return _fail(message) if message else 2


def _fail(message: str) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return 2
