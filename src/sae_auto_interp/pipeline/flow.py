"""One feature after another through explaining and scoring, several of them at once.

    records ─▶ explain ─┬▶ score its explanation
                        └▶ score the explanation of the feature before it (the shuffled control)
    when all are there ──▶ score the explanation of the most similar feature (`nearest_control`)

Scoring of one feature overlaps explaining of the next. Everything about one feature is asked as soon as it can be, side
by side, so that requests with the same beginning reach the server together. Explanations get the next free place: at
the end of the line, behind the scores of all other features, they would come back all at once, and features would move
in waves.

The control of a feature takes the explanation of the feature before it in its module, and the first one's takes that of
the last. Features come in a random order that depends on the seed alone, so this is a random derangement, the same
after any resume, and it needs no more than two neighbouring features at a time.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

from sae_auto_interp.pipeline.clients.request_counts import FeatureWindow, RequestCounts
from sae_auto_interp.pipeline.controls.lexical_baseline import LexicalBaseline
from sae_auto_interp.pipeline.controls.nearest_control import NearestControl
from sae_auto_interp.pipeline.explain_stage import ExplainStage
from sae_auto_interp.pipeline.interrupts import Stop
from sae_auto_interp.pipeline.progress.state import RunProgress
from sae_auto_interp.pipeline.score_stage import SHUFFLED, STAGE as SCORE, ScoreStage, as_control
from sae_auto_interp.pipeline.units import Evidence
from sae_auto_interp.pipeline.workers import for_each, together
from sae_auto_interp.types import Explanation


class _Said:
    """What each explainer says of a feature, as soon as it does; None where it failed."""

    def __init__(self, evidence: Evidence, explain: ExplainStage) -> None:
        self._evidence, self._explain = evidence.without_record(), explain
        self._told: dict[str, asyncio.Future[Explanation | None]] = {}

    def expected(self) -> None:
        """The explainers are going to be asked; until this is called it is all in the store."""
        loop = asyncio.get_running_loop()
        self._told = {name: loop.create_future() for name in self._explain.names}

    def tell(self, name: str, explanation: Explanation | None) -> None:
        self._told[name].set_result(explanation)

    async def by(self, name: str) -> Explanation | None:
        return await self._told[name] if self._told else await self._explain.explain(name, self._evidence)


@dataclass(frozen=True, slots=True)
class _Place:
    """A feature in its module's order."""

    evidence: Evidence
    said: _Said
    before: _Said | None
    """The feature whose explanation its control takes; None where it has no control."""
    is_blind: bool = False
    """Whether its questions are also put with the explanation hidden."""
    has_lexical: bool = False
    """Whether it has the lexical baseline."""


@dataclass(slots=True)
class _Chain:
    """The features of one module that have come so far, as far as they are still needed."""

    first: _Place
    last: _Said
    n: int = 1


@dataclass
class FeatureFlow:
    """The stages after the records, and what decides how much is done at once."""

    explain: ExplainStage
    score: ScoreStage | None
    """None explains only."""
    window: FeatureWindow
    request_counts: RequestCounts
    progress: RunProgress
    stop: Stop
    n_shuffled: int | None = None
    """Features of each module that get a shuffled control; None: all."""
    n_hidden: int | None = None
    """The same for questions with the explanation hidden."""
    lexical: LexicalBaseline | None = None
    """None: no such baseline."""
    nearest: NearestControl | None = None
    """None: no such control."""
    n_features: int = field(default=0, init=False)
    """How many have come."""
    _chains: dict[str, _Chain] = field(default_factory=dict[str, _Chain], init=False)

    async def run(self, features: AsyncIterator[Evidence]) -> None:
        """Work on all features as they come, then on the controls that had to wait for others."""
        await for_each(self._open_places(features), self._work_on, self.window.size)
        closing = [self._closed(chain) for chain in self._chains.values() if chain.n > 1 and self._has_control(0)]
        await together(self._score_control(name, place) for place in closing for name in self.explain.names)
        if self.nearest is not None:
            await self.nearest.score_all(self.window.size, self.stop)

    def n_controls(self, n_features: int) -> int:
        """Controls of both kinds of one explainer among `n_features` of one module."""
        return self._n_shuffled(n_features) + (0 if self.nearest is None else self.nearest.n_features(n_features))

    def _n_shuffled(self, n_features: int) -> int:
        """Shuffled controls of one explainer among `n_features` of one module."""
        if self.score is None or n_features < 2:
            return 0
        return n_features if self.n_shuffled is None else min(n_features, self.n_shuffled)

    def n_blind(self, n_features: int) -> int:
        """Features of those `n_features` of one module whose questions are also put with the explanation hidden."""
        return n_features if self.n_hidden is None else min(n_features, self.n_hidden)

    async def _open_places(self, features: AsyncIterator[Evidence]) -> AsyncIterator[_Place]:
        """The features on which something is left to do; the others only take their place."""
        async for evidence in features:
            if self.stop.requested:
                return
            self.n_features += 1
            if self.nearest is not None:
                self.nearest.came(evidence)
            place = self._placed(evidence)
            if not self._is_done(place):
                place.said.expected()
                yield place

    def _placed(self, evidence: Evidence) -> _Place:
        said = _Said(evidence, self.explain)
        chain = self._chains.get(evidence.feature.module_path)
        if chain is None:
            self._chains[evidence.feature.module_path] = _Chain(_Place(evidence.without_record(), said, None), said)
            return _Place(evidence, said, None, self.n_blind(1) > 0, self._has_lexical(0))
        is_blind = self.n_blind(chain.n + 1) > chain.n
        before = chain.last if self._has_control(chain.n) else None
        place = _Place(evidence, said, before, is_blind, self._has_lexical(chain.n))
        chain.last, chain.n = said, chain.n + 1
        return place

    def _has_control(self, number: int) -> bool:
        """Whether the feature of this number in its module, counted from 0, is to have one."""
        return self.score is not None and (self.n_shuffled is None or number < self.n_shuffled)

    def _has_lexical(self, number: int) -> bool:
        return self.lexical is not None and self.lexical.n_features(number + 1) > number

    def _closed(self, chain: _Chain) -> _Place:
        """The first feature of a module, now that the last one is there."""
        return replace(chain.first, before=chain.last)

    def _is_done(self, place: _Place) -> bool:
        feature, score = place.evidence.feature, self.score
        if place.has_lexical and self.lexical is not None and not self.lexical.is_done(feature):
            return False
        return all(
            self.explain.is_done(name, feature)
            and (score is None or score.is_done(name, feature, is_blind=place.is_blind))
            and (score is None or place.before is None or score.is_done(name, feature, control=SHUFFLED))
            for name in self.explain.names
        )

    async def _work_on(self, place: _Place) -> None:
        with self.request_counts.of_feature() as requests:
            asking = [self._explain_and_score(name, place) for name in self.explain.names]
            await together([*asking, self._compare_with_rule(place)])
        self.window.finished(requests.n)

    async def _explain_and_score(self, name: str, place: _Place) -> None:
        """Scores of the explanation are asked before those of the control, which may have to wait."""
        explanation = None if self.stop.requested else await self.explain.explain(name, place.evidence)
        place.said.tell(name, explanation)
        if self.score is not None:
            await together([self._score_own(name, explanation, place), self._score_control(name, place)])

    async def _compare_with_rule(self, place: _Place) -> None:
        """The lexical baseline, while a language model is waited for."""
        if place.has_lexical and self.lexical is not None and not self.stop.requested:
            await self.lexical.work_on(place.evidence)

    async def _score_own(self, name: str, explanation: Explanation | None, place: _Place) -> None:
        assert self.score is not None, "nothing is to be scored"
        if explanation is None:
            self.progress.drop(SCORE, self.score.n_scores(name, is_blind=place.is_blind))
        elif not self.stop.requested:
            await self.score.score(name, explanation, place.evidence, is_blind=place.is_blind)

    async def _score_control(self, name: str, place: _Place) -> None:
        """The control, where both features have been explained."""
        assert self.score is not None, "nothing is to be scored"
        feature = place.evidence.feature
        if place.before is None or self.score.is_done(name, feature, control=SHUFFLED):
            return
        own, other = await place.said.by(name), await place.before.by(name)
        if own is None or other is None:
            self.progress.drop(SCORE, self.score.n_scores(name))
        elif not self.stop.requested:
            await self.score.score(name, as_control(other, feature, SHUFFLED), place.evidence)
