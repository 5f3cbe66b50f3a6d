"""What is wrong with a run file, as one of our errors: the first problem that pydantic found, by its key's name."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from sae_auto_interp.errors import ConfigError, UnknownNameError, nearest_names


def first_problem(
    error: ValidationError, where: str, names_at: Callable[[tuple[int | str, ...]], list[str]]
) -> ConfigError | UnknownNameError:
    """An unknown key with its nearest match, or a value that will not do. `names_at` gives the keys of a place."""
    problem = error.errors()[0]
    location = tuple(part for part in problem["loc"] if part not in ("files", "made"))
    place = _key(location)
    if problem["type"] == "extra_forbidden":
        names = names_at(problem["loc"][:-1])
        above = _key(location[:-1])
        return UnknownNameError(f"setting in {where}", place, [f"{above}.{name}".lstrip(".") for name in names])
    # Who writes the key itself where the name of its variable belongs does not want to see it again.
    got = "" if place.endswith("api_key_env") else f" (got {problem.get('input')!r})"
    return ConfigError(f"{where}: {place}: {problem['msg']}{got}{_nearest_value(problem)}"[:400])


def _nearest_value(problem: Mapping[str, Any]) -> str:
    """Return the allowed value closest to one that a key cannot have."""
    if problem["type"] != "literal_error":
        return ""
    known = re.findall(r"'([^']*)'", str(problem["ctx"]["expected"]))
    near = nearest_names(str(problem.get("input")), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _key(location: tuple[int | str, ...]) -> str:
    """A place in the run file as its reader would write it: `autoencoders[0].k`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).lstrip(".")
