"""The lexical judge: applies a rule about tokens, as the lexical explainer writes it, to held-out examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress

from sae_auto_interp.prompting.token_rules import Rule, read_rule
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
        rule = _rule_in(explanation)
        if rule is None:
            reason = "the explanation states no token rule, so the lexical judge cannot apply it"
            return [Failure("score", "no_rule", reason, explanation)] * len(examples), Usage()
        return [Verdict(self._fits(rule, shown)) for shown in examples], Usage()

    def _fits(self, rule: Rule, shown: ShownExample) -> bool:
        if shown.highlighted is None:
            return rule.holds_in(shown.str_tokens)
        marked = list(compress(range(len(shown.str_tokens)), shown.highlighted))
        n_fitting = sum(rule.holds_at(shown.str_tokens, position) for position in marked)
        return bool(marked) and n_fitting >= self.marked_fraction * len(marked)


@lru_cache(maxsize=32)
def _rule_in(explanation: str) -> Rule | None:
    """The rule that an explanation states; every batch of a score asks for the same one."""
    clauses = read_rule(explanation)
    return Rule(clauses) if clauses else None
