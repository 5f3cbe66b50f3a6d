"""Intruder detection with the explanation: which window does it not fit? Chance is 1 / n_choices.

The questions of `intruder` (the same ones, at the same seed), with the explanation shown beside them. A forced choice
cannot be helped by knowing how many windows fire, or by saying yes to everything.
"""

from dataclasses import dataclass
from typing import ClassVar

from sae_auto_interp.scorers._choosing import ChoiceTask
from sae_auto_interp.scorers.intruder import IntruderScorer


@dataclass(frozen=True, slots=True, kw_only=True)
class IntruderExplainedScorer(IntruderScorer):
    """One request per question to a judge that compares windows; any other judges each window alone."""

    name: ClassVar[str] = "intruder_explained"
    task: ClassVar[ChoiceTask] = "intruder_explained"
    reads_explanation: ClassVar[bool] = True
