"""What the planted features fire on: rules that are exact by construction, each with a sentence that says it.

A feature has two explanations: the exact one, and an over-broad one that also holds where the feature most like it
fires. Whoever reads a sentence of these can look up what it means (`rule_of`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sae_auto_interp.planted.words import ADJECTIVES, NOUNS

Places = Callable[[Sequence[str]], list[bool]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A sentence, and where it is true of a text given as words (any capitals, spaces around them allowed)."""

    text: str
    places: Places


@dataclass(frozen=True, slots=True)
class PlantedFeature:
    """A feature that fires exactly where `exact` holds."""

    exact: Rule
    broad: Rule
    """Holds wherever `exact` holds, and wherever the neighbour's does."""
    neighbour: int
    """Place in `PLANTED` of the feature most like it."""


def _one_of(*classes: str) -> Places:
    members = {word for name in classes for word in {**NOUNS, **ADJECTIVES}[name]}
    return lambda words: [word.strip().lower() in members for word in words]


def _after(*classes: str) -> Places:
    before = _one_of(*classes)
    return lambda words: [False, *before(words)[:-1]] if words else []


def _pair(first: Rule, second: Rule, broad: Rule, place: int) -> tuple[PlantedFeature, PlantedFeature]:
    return PlantedFeature(first, broad, place + 1), PlantedFeature(second, broad, place)


PLANTED: tuple[PlantedFeature, ...] = (
    *_pair(
        Rule("names of farm animals", _one_of("farm animal")),
        Rule("names of wild animals", _one_of("wild animal")),
        Rule("names of animals", _one_of("farm animal", "wild animal")),
        0,
    ),
    *_pair(
        Rule("names of string instruments", _one_of("string instrument")),
        Rule("names of wind instruments", _one_of("wind instrument")),
        Rule("names of musical instruments", _one_of("string instrument", "wind instrument")),
        2,
    ),
    *_pair(
        Rule("names of boats", _one_of("boat")),
        Rule("names of vehicles that move on land", _one_of("land vehicle")),
        Rule("names of vehicles of any kind", _one_of("boat", "land vehicle")),
        4,
    ),
    *_pair(
        Rule("people named by their occupation, and also names of garments", _one_of("occupation", "garment")),
        Rule("names of buildings", _one_of("building")),
        Rule("people named by their occupation, garments, buildings", _one_of("occupation", "garment", "building")),
        6,
    ),
    *_pair(
        Rule("colour words", _one_of("colour")),
        Rule("words that say what a thing is made of, such as glass", _one_of("material")),
        Rule("words for a colour or a material", _one_of("colour", "material")),
        8,
    ),
    *_pair(
        Rule("the word right after a colour word", _after("colour")),
        Rule("the word right after a word that says what a thing is made of", _after("material")),
        Rule("the word right after a word for a colour or a material", _after("colour", "material")),
        10,
    ),
)

_BY_TEXT = {rule.text: rule for feature in PLANTED for rule in (feature.exact, feature.broad)}


def rule_of(text: str) -> Rule | None:
    """The rule that a sentence of this module states; None for any other text."""
    return _BY_TEXT.get(text)
