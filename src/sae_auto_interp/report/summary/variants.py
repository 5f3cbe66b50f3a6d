"""Variants: who explained, by which test, and who judged; in which order they are read, and which one comes first.

The primary explainer and judge are what features are sorted by: a language model where there is one, else the lexical
one. A shuffled control is the variant of an explainer `shuffled:<explainer>`, and the one with the most similar
feature's explanation that of `nearest:<explainer>`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sae_auto_interp.types import FeatureId, Score, ScoreKind

SHUFFLED_PREFIX = "shuffled:"
NEAREST_PREFIX = "nearest:"
LEXICAL = "lexical"
HIDDEN_PREFIX = "hidden:"
"""Prefix of judges that are not told the explanation."""
BASELINES = (LEXICAL, "no_op")
HEADLINE_SCORERS = ("detection", "fuzzing")


@dataclass(frozen=True, slots=True, order=True)
class Variant:
    """What is compared within a run: who explained, by which test, and who judged."""

    explainer: str
    scorer: str
    judge: str

    @property
    def control(self) -> "Variant":
        """The same with shuffled explanations."""
        return Variant(SHUFFLED_PREFIX + self.explainer, self.scorer, self.judge)

    @property
    def nearest(self) -> "Variant":
        """The same with the explanations of the most similar features."""
        return Variant(NEAREST_PREFIX + self.explainer, self.scorer, self.judge)

    @property
    def is_hidden(self) -> bool:
        """Whether the judge was not told the explanation: a probe, and no result of the explainer."""
        return self.judge.startswith(HIDDEN_PREFIX)


ScoresByVariant = Mapping[Variant, Mapping[FeatureId, Score]]


def is_control(explainer: str) -> bool:
    """Whether these are the explanations of other features, and no explainer of its own."""
    return explainer.startswith((SHUFFLED_PREFIX, NEAREST_PREFIX))


def scores_by_variant(
    scores: Iterable[tuple[str, Score]],
    explainer_of: Mapping[str, str],
    kinds: Sequence[ScoreKind] = ("classification",),
) -> ScoresByVariant:
    """Scores of some kinds by variant and feature; an unknown explanation is attributed by the form of its id."""
    found: dict[Variant, dict[FeatureId, Score]] = defaultdict(dict)
    for judge, score in scores:
        if score.kind in kinds:
            by_form = score.explanation_id.removesuffix(f"/{score.feature}")
            explainer = explainer_of.get(score.explanation_id, by_form)
            found[Variant(explainer, score.scorer, judge)][score.feature] = score
    return found


def reading_order(variant: Variant) -> tuple[bool, str, str, bool, bool, str]:
    """Sort key: language models before the lexical baseline, judges before their probes, detection before fuzzing."""
    is_lexical, judge = variant.explainer == LEXICAL, variant.judge.removeprefix(HIDDEN_PREFIX)
    is_no_headline = variant.scorer not in HEADLINE_SCORERS
    return is_lexical, variant.explainer, judge, variant.is_hidden, is_no_headline, variant.scorer


def primary_variant(matched: list[Variant], explainers: list[str], order: Sequence[str] = ()) -> Variant | None:
    """The first variant of the first explainer that is no baseline, and of its first judge that is none.

    `order` is that of the run file; explainers that it does not name come after, by their names.
    """
    names = {v.explainer for v in matched} or {name for name in explainers if not is_control(name)}
    if not names:
        return None
    place = {name: i for i, name in enumerate(order)}
    explainer = min(names, key=lambda name: (name in BASELINES, place.get(name, len(place)), name))
    own = [v for v in matched if v.explainer == explainer]
    if not own:
        return Variant(explainer, "", "")
    judge = min({v.judge for v in own}, key=_judge_order)
    return next(v for v in own if v.judge == judge)


def _judge_order(judge: str) -> tuple[bool, bool, str]:
    """Sort key: language models first, then other models, then what only guards against mistakes."""
    is_baseline = judge == LEXICAL or judge.startswith(HIDDEN_PREFIX)
    return is_baseline, not judge.startswith("llm:"), judge
