"""Programs to be measured in tests: what they do is in the settings."""

import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.child import answer


def measure(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Writes its mark into the folder, so that the order of several is seen; fails when it is told to."""
    with (folder / "order.txt").open("a") as stream:
        stream.write(f"{settings['mark']} ")
    if settings.get("fails"):
        sys.exit("this is why")
    print("a library says something")
    return {"seconds": settings["seconds"], "threads_asked": int(os.environ["OMP_NUM_THREADS"])}


if __name__ == "__main__":
    answer(measure)
