r"""Explanations that were made before, by anyone: a file of any form that `_stored_files` reads.

    {"feature": "transformer.h.1:17", "explanation": "words for money"}

Names of places are taken as they stand until `named` gives those of a run. Texts that are no explanations (refusals,
errors, empty templates) are left out. With `shuffled` every feature gets the explanation of another feature of its
module, never its own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from sae_auto_interp.explainers._stored_files import StoredText, feature_of, read_stored
from sae_auto_interp.prompting.explanations import NoExplanation, why_no_explanation
from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import Explanation, Failure, FeatureId, FeatureRecord


@dataclass(frozen=True, kw_only=True)
class StoredExplainer:
    """Reads the file once. Raises `InputError` for a missing or malformed one, with the line."""

    name: ClassVar[str] = "stored"

    path: str
    shuffled: bool = False
    seed: int = 0
    several: Literal["first", "last"] = "first"
    """Which explanation counts where a feature has several that are explanations."""
    content_sha256: str = field(init=False, repr=False, compare=False)
    """Digest of the file: with another content it is another explainer."""
    stored: tuple[StoredText, ...] = field(init=False, repr=False, compare=False)
    """What the file holds, in its order."""
    _texts: dict[FeatureId, str] = field(init=False, repr=False, compare=False)
    _left_out: dict[FeatureId, NoExplanation] = field(init=False, repr=False, compare=False)
    _several: frozenset[FeatureId] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        texts, digest = read_stored(Path(self.path))
        object.__setattr__(self, "content_sha256", digest)
        object.__setattr__(self, "stored", tuple(texts))
        self._take((feature_of(text), text.text) for text in texts)

    def named(self, places: Mapping[StoredText, FeatureId]) -> "StoredExplainer":
        """The same explanations under the features that a run knows them by; what `places` lacks is left out."""
        changed = replace(self)
        changed._take((places[text], text.text) for text in self.stored if text in places)
        return changed

    @property
    def features(self) -> frozenset[FeatureId]:
        """Those that have an explanation."""
        return frozenset(self._texts)

    @property
    def n_several(self) -> int:
        """Features that have more than one text which is an explanation."""
        return len(self._several)

    @property
    def n_left_out(self) -> int:
        """Features all of whose texts are no explanations."""
        return len(self._left_out)

    async def explain(self, record: FeatureRecord) -> Explanation | Failure:
        text = self._texts.get(record.feature)
        if text is None and not self.shuffled and record.feature in self._left_out:
            why = self._left_out[record.feature]
            return Failure("explain", why.kind, f"{record.feature}: {why.message} ({self.path})")
        if text is None:
            reason = "no other feature of its module has one" if self.shuffled else "the file has none"
            return Failure("explain", "not_stored", f"{record.feature}: {reason} ({self.path})")
        return Explanation(record.feature, text, self.name, prompt_id="stored-1")

    def _take(self, pairs: Iterable[tuple[FeatureId, str]]) -> None:
        texts: dict[FeatureId, str] = {}
        left_out: dict[FeatureId, NoExplanation] = {}
        several: set[FeatureId] = set()
        for feature, text in pairs:
            why = why_no_explanation(text)
            if why is not None:
                left_out.setdefault(feature, why)
            else:
                first = texts.setdefault(feature, text)
                several |= {feature} if first != text else set()
                texts[feature] = text if self.several == "last" else first
        object.__setattr__(self, "_left_out", {f: why for f, why in left_out.items() if f not in texts})
        object.__setattr__(self, "_several", frozenset(several))
        object.__setattr__(self, "_texts", _shuffled(texts, self.seed) if self.shuffled else texts)


def _shuffled(texts: dict[FeatureId, str], seed: int) -> dict[FeatureId, str]:
    """Each feature with another one's text: a derangement in each module; a feature alone in its module has none."""
    moved: dict[FeatureId, str] = {}
    for module in sorted({feature.module_path for feature in texts}):
        own = sorted(feature for feature in texts if feature.module_path == module)
        order = derived_rng(seed, "stored.shuffled", FeatureId(module, 0)).permutation(len(own))
        if len(own) > 1:
            moved |= {own[i]: texts[own[j]] for i, j in zip(order, np.roll(order, 1), strict=True)}
    return moved
