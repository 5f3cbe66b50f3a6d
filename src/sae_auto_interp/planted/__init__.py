"""The planted world: features whose exact meaning is known, to see whether scorers and judges mean what they say.

PlantedWorld              corpus, cache and records
PLANTED, rule_of          what each feature fires on, and what a sentence about it means
exact_explanation         the true explanation of a planted feature
broad_explanation         one that is too broad
PlantedJudge              knows the rules, and errs as often as it is told to
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sae_auto_interp.planted.judge import PlantedJudge
    from sae_auto_interp.planted.rules import PLANTED, PlantedFeature, Rule, rule_of
    from sae_auto_interp.planted.world import PlantedWorld, broad_explanation, exact_explanation, record_config

__all__ = [
    "PLANTED",
    "PlantedFeature",
    "PlantedJudge",
    "PlantedWorld",
    "Rule",
    "broad_explanation",
    "exact_explanation",
    "record_config",
    "rule_of",
]

_HOMES = {
    "PLANTED": "rules",
    "PlantedFeature": "rules",
    "PlantedJudge": "judge",
    "PlantedWorld": "world",
    "Rule": "rules",
    "broad_explanation": "world",
    "exact_explanation": "world",
    "record_config": "world",
    "rule_of": "rules",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
