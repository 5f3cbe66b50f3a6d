"""Derived generators: the same for the same purpose, another for any other."""

from itertools import product

from sae_auto_interp.seeds import derived_rng
from sae_auto_interp.types import FeatureId


def draw(seed: int, purpose: str, feature: FeatureId | None) -> tuple[int, ...]:
    return tuple(derived_rng(seed, purpose, feature).integers(0, 2**63, 2).tolist())


def test_the_same_words_give_the_same_draws_and_all_others_differ() -> None:
    features = [None, *(FeatureId(m, i) for m in ("h.1", "h.10", "h.1.mlp") for i in (0, 1, 2**20))]
    words = list(product((0, 1, 2**40), ("records.train", "records.test", "detection.order"), features))
    draws = [draw(*w) for w in words]
    assert draws == [draw(*w) for w in words]
    assert len(set(draws)) == len(words)


def test_draws_are_the_same_on_every_machine() -> None:
    assert draw(7, "detection.order", FeatureId("transformer.h.2", 17)) == (7500601090102756036, 2108644324446010893)
