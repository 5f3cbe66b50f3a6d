"""The lexical judge: applies a rule about tokens, as the lexical explainer writes it, to held-out examples."""

from collections.abc import Sequence
from dataclasses import dataclass

from sae_auto_interp.lexical_rule import matching_positions, read_rule
from sae_auto_interp.types import Failure, ShownExample, Usage, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class LexicalJudge:
    """Knows of a feature only what the explanation's sentence says."""

    marked_fraction: float = 0.5
    """Share of the marked tokens that must satisfy the rule (fuzzing)."""

    @property
    def name(self) -> str:
        return "lexical"

    async def judge(
        self, explanation: str, examples: Sequence[ShownExample], task: str
    ) -> tuple[list[Verdict | Failure], Usage]:
        """Detection: does the rule hold anywhere? Fuzzing: does it hold on enough of the marked tokens?"""
        clauses = read_rule(explanation)
        if not clauses:
            reason = "the explanation states no token rule, so the lexical judge cannot apply it"
            return [Failure("score", "no_rule", reason, explanation)] * len(examples), Usage()
        matches = (matching_positions(clauses, shown.str_tokens) for shown in examples)
        return [Verdict(self._fits(m, shown)) for m, shown in zip(matches, examples, strict=True)], Usage()

    def _fits(self, matches: Sequence[bool], shown: ShownExample) -> bool:
        if shown.highlighted is None:
            return any(matches)
        marked = [match for match, is_marked in zip(matches, shown.highlighted, strict=True) if is_marked]
        return bool(marked) and sum(marked) >= self.marked_fraction * len(marked)
