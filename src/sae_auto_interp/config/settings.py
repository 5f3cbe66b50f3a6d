"""Settings from a run file, converted to the types of a component's fields.

A name that is none is answered with the nearest one, a value that does not fit with what is wrong about it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, get_type_hints

from pydantic import ConfigDict, ValidationError, create_model

from sae_auto_interp.errors import ConfigError, UnknownNameError


def checked_settings(
    component: type, settings: Mapping[str, Any], where: str, exclude: set[str] | None = None
) -> dict[str, Any]:
    """Settings converted to the types of a dataclass's fields."""
    hints = get_type_hints(component)
    fields = {
        f.name: (hints[f.name], ...)
        for f in dataclasses.fields(component)
        if f.init and f.name not in (exclude or set())
    }
    for name in settings:
        if name not in fields:
            raise UnknownNameError(f"setting of {where}", name, fields)
    chosen: dict[str, Any] = {name: fields[name] for name in settings}
    model = create_model("Settings", __config__=ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False), **chosen)
    try:
        return {name: getattr(model.model_validate(dict(settings)), name) for name in settings}
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(f"{where}.{problem['loc'][0]}: {problem['msg']} (got {problem['input']!r})") from error
