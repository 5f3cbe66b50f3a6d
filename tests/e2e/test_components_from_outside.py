"""An explainer and a scorer from a user's own module run, resume and are reported like ours."""

import os
from pathlib import Path

from tests.e2e.runs import sae_auto_interp, write_run_file

MODULE = '''
from dataclasses import dataclass
from typing import ClassVar

from sae_auto_interp.explainers import LexicalExplainer
from sae_auto_interp.protocols import Judge
from sae_auto_interp.scorers import DetectionScorer
from sae_auto_interp.types import Explanation, Failure, FeatureRecord, Score


@dataclass(frozen=True, kw_only=True)
class Short:
    """The lexical rule's first clause."""

    name: ClassVar[str] = "short"

    async def explain(self, record: FeatureRecord) -> Explanation | Failure:
        rule = await LexicalExplainer(max_clauses=1).explain(record)
        return rule if isinstance(rule, Failure) else Explanation(record.feature, rule.text, self.name, "short/1")


@dataclass(frozen=True, kw_only=True)
class Unseeded:
    """Detection under another name, without a seed of its own."""

    name: ClassVar[str] = "unseeded"
    judge: Judge

    async def score(self, record: FeatureRecord, explanation: Explanation, explanation_id: str) -> Score:
        score = await DetectionScorer(judge=self.judge).score(record, explanation, explanation_id)
        return Score(score.feature, self.name, explanation_id, score.kind, score.trials)
'''


def test_they_run_resume_and_are_reported(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    more = "scorers: ['mine:Unseeded']\n"
    run_file = write_run_file(tmp_path, "{name: 'mine:Short', judge: lexical}", more=more)
    path = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    arguments = ("run", run_file, "--out", tmp_path / "run")
    first, again = (sae_auto_interp(*arguments, more_environment=path) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert "explained by short, judged by lexical" in first.stdout
    assert "unseeded" in first.stdout
    # four more of each are the lexical baseline's
    assert "score: 12 of 12 scores" in first.stderr
    assert "explain: 8 explanations, 8 already done" in again.stderr
    assert again.stdout == first.stdout
