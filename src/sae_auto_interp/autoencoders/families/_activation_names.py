"""What a configuration calls its activation function, held against what is computed here: another is refused by name.

Files say it under several keys, some beside a word for the whole architecture that says it again. An activation
function that is read as another one gives wrong codes that look right.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from sae_auto_interp.errors import WeightsError

KEYS = (
    "activation_fn", "activation_fn_str", "activation_function", "activation", "act_fn", "act", "nonlinearity",
)  # fmt: skip


def check_activation(config: Mapping[str, Any], read_as: Collection[str], file: Path) -> None:
    """Raise `WeightsError` where a configuration names another activation function than the ones in `read_as`.

    Case, hyphens and underscores do not matter. A configuration that says nothing passes.
    """
    known = {plain(name) for name in read_as}
    for key in KEYS:
        stated = config.get(key)
        if stated is None:
            continue
        if not isinstance(stated, str) or plain(stated) not in known:
            raise WeightsError(
                f"{file}: {key} is {str(stated)[:80]!r}, which is not computed here for these weights; what is: "
                f"{', '.join(read_as)}"
            )


def plain(name: str) -> str:
    """A name without what different writers write differently."""
    return re.sub(r"[\s_-]", "", name).lower()
