"""What is wrong with a run file, as one of our errors: the first problem that pydantic found, by its key's name."""

from collections.abc import Callable

from pydantic import ValidationError

from sae_auto_interp.errors import ConfigError, UnknownNameError


def first_problem(
    error: ValidationError, where: str, names_at: Callable[[tuple[int | str, ...]], list[str]]
) -> ConfigError | UnknownNameError:
    """An unknown key with its nearest match, or a value that will not do. `names_at` gives the keys of a place."""
    problem = error.errors()[0]
    location = tuple(part for part in problem["loc"] if part not in ("files", "made"))
    place = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        names = names_at(problem["loc"][:-1])
        above = ".".join(map(str, location[:-1]))
        return UnknownNameError(f"setting in {where}", place, [f"{above}.{name}".lstrip(".") for name in names])
    # Who writes the key itself where the name of its variable belongs does not want to see it again.
    got = "" if place.endswith("api_key_env") else f" (got {problem.get('input')!r})"
    return ConfigError(f"{where}: {place}: {problem['msg']}{got}"[:400])
