"""Where a user's caches lie by default, as each system has it."""

import os
import sys
from pathlib import Path

VARIABLE = "SAE_AUTO_INTERP_CACHE"
"""Environment variable that names another folder."""
_NAME = "sae-auto-interp"


def cache_folder() -> Path:
    """`$SAE_AUTO_INTERP_CACHE`, or the system's place for caches: ~/.cache, ~/Library/Caches, %LOCALAPPDATA%."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / _NAME
