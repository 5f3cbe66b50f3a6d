"""The public names, each with the module that it is in; they load when they are first used."""

from .judge import PlantedJudge as PlantedJudge
from .rules import PLANTED as PLANTED, PlantedFeature as PlantedFeature, Rule as Rule, rule_of as rule_of
from .world import (
    PlantedWorld as PlantedWorld,
    broad_explanation as broad_explanation,
    exact_explanation as exact_explanation,
    record_config as record_config,
)

__all__: list[str]
