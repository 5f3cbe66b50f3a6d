"""Links in a run directory: they may not lead out of it.

A run directory may come from anybody. What a run writes into it would otherwise land wherever a link in it points. The
run directory itself may be a link, to a larger disk for instance.
"""

import os
from pathlib import Path

from sae_auto_interp.errors import RunDirectoryError


def refuse_links_outside(root: Path) -> None:
    """Raise `RunDirectoryError` for a link in a run directory that leads out of it; one that is not there has none."""
    try:
        inside = root.resolve()
    except RuntimeError as error:  # what Python below 3.13 says of a circle
        raise RunDirectoryError(f"{root} leads through a circle of links; choose another directory") from error
    for folder, folders, files in os.walk(inside):
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink() and not _target(path).is_relative_to(inside):
                raise RunDirectoryError(
                    f"{path} is a link that leads out of the run directory, where nothing is written; put what it "
                    "points to in its place (the run directory itself may be a link)"
                )


def _target(link: Path) -> Path:
    """Where a link leads; itself where it leads in a circle, through which nothing can be written."""
    try:
        return link.resolve()
    except (OSError, RuntimeError):
        return link
