"""The planted world: features whose exact meaning is known, to see whether scorers and judges mean what they say.

PlantedWorld              corpus, cache and records
PLANTED, rule_of          what each feature fires on, and what a sentence about it means
exact_explanation         the true explanation of a planted feature
broad_explanation         one that is too broad
PlantedJudge              knows the rules, and errs as often as it is told to
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
