"""From what weight files and other libraries call a place to the `Site` of the subject model that is meant.

An address of our own is `module path[:in|:out][#item]`; the module path is resolved as `module_paths` says.
"""

import re
from typing import Any

from sae_auto_interp.models.module_paths import resolve_module_path
from sae_auto_interp.models.site import Site

_ADDRESS = re.compile(r"(?P<path>[^:#]+)(?::(?P<side>in|out))?(?:#(?P<item>\d+))?")


def resolve_site(model: Any, name: str) -> Site:
    """The site that `name` means in `model`. Raises `UnknownNameError` with the nearest matches."""
    match = _ADDRESS.fullmatch(name)
    path, side, item = (match["path"], match["side"], match["item"]) if match else (name, None, None)
    return Site(resolve_module_path(model, path), "input" if side == "in" else "output", int(item or 0))
