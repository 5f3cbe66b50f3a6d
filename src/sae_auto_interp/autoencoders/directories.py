"""Which of the coders below a directory are meant, and that no two are for one place."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from sae_auto_interp.autoencoders.coder import Coder
from sae_auto_interp.errors import InputError, UnknownNameError
from sae_auto_interp.models.sites.site import Placement

DEPTH = 3
"""Levels of directories that are looked into: `layer_9/width_16k/average_l0_68/params.npz` has the most."""


Chosen = str | int | Sequence[str | int] | None
"""How users choose among coders: by names or layer numbers, or by one; None takes all."""


def names_of(chosen: Chosen) -> list[str] | None:
    """A choice as the names that `coders_in` takes."""
    if chosen is None:
        return None
    return [str(name) for name in ([chosen] if isinstance(chosen, str | int) else chosen)]


def files_below(root: Path, *patterns: str) -> list[Path]:
    """Files that fit one of the patterns, in `root` or up to DEPTH directories below it, in order of their paths.

    When `root` is such a file, it alone.
    """
    if root.is_file():
        return [root] if any(root.match(pattern) for pattern in patterns) else []
    found = {path for n in range(DEPTH + 1) for pattern in patterns for path in root.glob("*/" * n + pattern)}
    return sorted(path for path in found if path.is_file())


def by_name(root: Path, directories: Iterable[Path]) -> dict[str, Path]:
    """Directories by their paths below `root`; one that is not below it (`root` itself, or of a file) by its name."""
    return {d.relative_to(root).as_posix() if root in d.parents else d.name: d for d in directories}


def chosen_of(found: Mapping[str, Path], chosen: Sequence[str] | None, family: str, root: Path) -> dict[str, Path]:
    """Of coders by name, those that are chosen; None takes all. Raises `UnknownNameError` for a name that is not there,
    `InputError` when there is nothing."""
    if not found:
        raise InputError(f"{family} coders: there are none in {root}, nor up to {DEPTH} directories below it")
    if chosen is None:
        return dict(found)
    for name in chosen:
        if name not in found:
            raise UnknownNameError(f"{family} coder in {root}", name, found)
    return {name: found[name] for name in chosen}


def one_per_place(placed: Iterable[tuple[str, Placement, Callable[[], Coder]]], family: str) -> dict[Placement, Coder]:
    """The coders by where they belong, each read only once it is known that it is alone there."""
    names: dict[Placement, str] = {}
    readers: dict[Placement, Callable[[], Coder]] = {}
    for name, placement, read in placed:
        if placement in names:
            both = f"{names[placement]} and {name}"
            raise InputError(f"{family} coders: {both} are both for {placement.sites[-1]}; choose one by its name")
        names[placement], readers[placement] = name, read
    return {placement: read() for placement, read in readers.items()}
