"""From what a user writes for a module to the name under which a run's features are addressed.

The names are known (of the autoencoders that are attached, or of the caches that are there), the model is not needed.
A name may leave out what stands above the stack of blocks (`layers.3.mlp`, `h.2`), or have more of it than the model
here does (`model.language_model.layers.3`); a further coder at a module may be named without the module, if that is
clear (`@width_65k`).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from sae_auto_interp.errors import InputError, UnknownNameError

BESIDE = "@"
"""In the name of a further coder at a module: `transformer.h.1@width_65k`."""


def resolve_module_name(name: str, known: Collection[str], where: str = "") -> str:
    """The one of the `known` names that `name` means.

    In this order: the same; the only one that ends so; the only one that `name` ends with. Raises `UnknownNameError`
    with the nearest match, and `InputError` where several end so; `where` is the key of the run file, or the option.
    """
    if name in known:
        return name
    for found in ([each for each in known if _ends(each, name)], [each for each in known if _ends(name, each)]):
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(sorted(found)[:5])
            raise InputError(f"{_prefix(where)}{name!r} could be any of {listed}; write it in full")
    raise UnknownNameError(f"module path{f' in {where}' if where else ''}", name, known)


def resolved_indices(
    indices: Mapping[str, Sequence[int]], widths: Mapping[str, int | None], where: str
) -> dict[str, tuple[int, ...]]:
    """{module name: features} in the names of `widths`, {module name: number of features, None where unknown}.

    Raises as `resolve_module_name`, and `InputError` for a feature that a module does not have.
    """
    found: dict[str, tuple[int, ...]] = {}
    for name, features in indices.items():
        module = resolve_module_name(name, widths, where)
        check_indices(module, features, widths[module], where)
        found[module] = tuple(dict.fromkeys((*found.get(module, ()), *features)))
    return found


def check_indices(module: str, features: Iterable[int], width: int | None, where: str = "") -> None:
    """Raise `InputError` for a feature beyond the width of a module, or below zero."""
    for index in features:
        if index < 0 or (width is not None and index >= width):
            has = "" if width is None else f"; it has 0 to {width - 1}"
            raise InputError(f"{_prefix(where)}there is no feature {index} of {module}{has}")


def _ends(whole: str, part: str) -> bool:
    """Whether `part` is the end of `whole` from a dot on; of a further coder's name from its @ on as well."""
    if part.startswith(BESIDE):
        return whole.endswith(part) and len(part) > 1
    if BESIDE in whole and BESIDE not in part:
        return False
    return bool(part) and whole.endswith(f".{part}")


def _prefix(where: str) -> str:
    return f"{where}: " if where else ""
