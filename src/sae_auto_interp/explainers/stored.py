r"""Explanations that were made before, by anyone: a JSON-lines file, one explanation per line.

    {"feature": "transformer.h.1:17", "explanation": "words for money"}

`feature` may also be given as `module_path` and `index`; `text` and `description` (Neuronpedia's word) are read as
`explanation`. With `shuffled` every feature gets the explanation of another feature of its module, never its own.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from sae_auto_interp.errors import InputError
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Explanation, Failure, FeatureId, FeatureRecord

TEXT_FIELDS = ("explanation", "text", "description")


@dataclass(frozen=True, kw_only=True)
class StoredExplainer:
    """Reads the file once. Raises `InputError` for a missing or malformed one, with the line."""

    name: ClassVar[str] = "stored"

    path: str
    shuffled: bool = False
    seed: int = 0
    content_sha256: str = field(init=False, repr=False, compare=False)
    """Of the file: with another content it is another explainer."""
    _texts: dict[FeatureId, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        texts = _read(Path(self.path))
        object.__setattr__(self, "content_sha256", hashlib.sha256(Path(self.path).read_bytes()).hexdigest())
        object.__setattr__(self, "_texts", _shuffled(texts, self.seed) if self.shuffled else texts)

    async def explain(self, record: FeatureRecord) -> Explanation | Failure:
        text = self._texts.get(record.feature)
        if text is None:
            reason = "no other feature of its module has one" if self.shuffled else "the file has none"
            return Failure("explain", "not_stored", f"{record.feature}: {reason} ({self.path})")
        return Explanation(record.feature, text, self.name, prompt_id="stored-1")


def _read(path: Path) -> dict[FeatureId, str]:
    if not path.is_file():
        raise InputError(f"explainers.stored: there is no file {path}")
    texts: dict[FeatureId, str] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if line.strip():
            feature, text = _entry(line, f"{path}, line {number}")
            if texts.setdefault(feature, text) != text:
                raise InputError(f"{path}, line {number}: {feature} has another explanation further up")
    if not texts:
        raise InputError(f"explainers.stored: {path} holds no explanation")
    return texts


def _entry(line: bytes, where: str) -> tuple[FeatureId, str]:
    try:
        value: Any = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: is not UTF-8 ({error.reason})") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: is not valid JSON ({error.msg})") from error
    fields = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    text = next((fields[name] for name in TEXT_FIELDS if isinstance(fields.get(name), str)), "").strip()
    if not text:
        raise InputError(f"{where}: no text under any of {', '.join(TEXT_FIELDS)}")
    try:
        if "feature" in fields:
            return FeatureId.parse(str(fields["feature"])), text
        return FeatureId(str(fields["module_path"]), int(fields["index"])), text
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{where}: no feature: give `feature`, or `module_path` and `index`") from error


def _shuffled(texts: dict[FeatureId, str], seed: int) -> dict[FeatureId, str]:
    """Each feature with another one's text: a derangement in each module; a feature alone in its module has none."""
    moved: dict[FeatureId, str] = {}
    for module in sorted({feature.module_path for feature in texts}):
        own = sorted(feature for feature in texts if feature.module_path == module)
        order = derived_rng(seed, "stored.shuffled", FeatureId(module, 0)).permutation(len(own))
        if len(own) > 1:
            moved |= {own[i]: texts[own[j]] for i, j in zip(order, np.roll(order, 1), strict=True)}
    return moved
