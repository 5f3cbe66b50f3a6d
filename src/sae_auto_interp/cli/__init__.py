"""The command line: parse, build the configuration, call the pipeline, print. No logic of its own.

Every mistake of a user ends in one line on standard error and exit status 2; a run that goes to its end, and in which
an explainer or a judge got nothing at all, ends with 3; an interruption says how to resume and ends with 130 (ctrl-C)
or 143 (SIGTERM).
"""

import errno
import sys
from collections.abc import Sequence

import typer
from typer.exceptions import TyperException

from sae_auto_interp.cli import caches, measures, run_files, runs
from sae_auto_interp.cli.app import app
from sae_auto_interp.errors import InputError, NothingCameError, PreflightError, RunInterruptedError, SaeAutoInterpError
from sae_auto_interp.visible_text import visible, visible_output

__all__ = ["app", "caches", "main", "measures", "run_files", "runs"]

SIGNALLED = 128
"""Added to a signal's number: the exit status of what it ended, as shells count it."""
INTERRUPTED = SIGNALLED + 2
"""After ctrl-C."""
NOTHING_CAME = 3
"""The run went to its end, and an explainer or a judge got nothing at all."""
WHILE_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)
"""Full, over quota, or not ours to write: what has come over a run that could be written before."""
LONGEST_PATH = 200
"""Characters of a path that a message shows."""


def main() -> None:
    """Entry point: turns every error of ours into one line and an exit status; what is printed can only be seen."""
    with visible_output():
        _main()


def _main() -> None:
    try:
        _check_arguments(sys.argv[1:])
        status = app(standalone_mode=False)
    except PreflightError as error:
        status = max(_fail(message) for message in error.messages)
    except RunInterruptedError as error:
        print(error, file=sys.stderr)
        sys.exit(SIGNALLED + error.signal)
    except NothingCameError as error:
        _fail(str(error))
        status = NOTHING_CAME
    except SaeAutoInterpError as error:
        status = _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except OSError as error:
        status = _fail(_path_line(error))
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] == "sae_auto_interp":
            raise
        status = _fail(f"this needs the package {error.name}, which is not installed: pip install {error.name}")
    except TyperException as error:
        status = _usage_error(error)
    if status == INTERRUPTED:  # typer itself may have turned ctrl-C into this status
        print("interrupted; nothing finished is lost: run the same command again to go on", file=sys.stderr)
    sys.exit(status if isinstance(status, int) else 0)


def _check_arguments(arguments: Sequence[str]) -> None:
    """Raises `InputError` for one that is no text: no file may have its name, and no message show it."""
    from sae_auto_interp.files import is_writable

    for argument in arguments:
        if not is_writable(argument):
            raise InputError(f"the argument {argument!a} holds NUL or bytes that are no UTF-8; give another name")


def _path_line(error: OSError) -> str:
    """What is wrong with a file or directory, and what to do."""
    name = str(error.filename) if error.filename is not None else ""
    place = f"{name[:LONGEST_PATH]}…" if len(name) > LONGEST_PATH else name or "while writing"
    then = "what is finished is kept: run again once mended" if error.errno in WHILE_WRITING else "give another path"
    return f"{error.strerror or error}: {place}; {then}"


def _usage_error(error: TyperException) -> int:
    """Typer's complaints about the command line, in our form; none when it has printed the help instead."""
    say = getattr(error, "format_message", None)
    message = say() if say else str(error)
    return _fail(message) if message else 2


def _fail(message: str) -> int:
    print("error: " + visible(" ".join(message.split())), file=sys.stderr)
    return 2
