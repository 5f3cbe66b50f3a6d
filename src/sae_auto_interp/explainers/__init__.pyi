"""The public names, each with the module that it is in; they load when they are first used."""

from .best_of_n import BestOfNExplainer as BestOfNExplainer
from .contrastive import ContrastiveExplainer as ContrastiveExplainer
from .lexical import LexicalExplainer as LexicalExplainer
from .max_activation import MaxActivationExplainer as MaxActivationExplainer
from .max_activation_logits import MaxActivationLogitsExplainer as MaxActivationLogitsExplainer
from .no_op import NoOpExplainer as NoOpExplainer
from .revision import RevisionExplainer as RevisionExplainer
from .saebench import SaebenchExplainer as SaebenchExplainer
from .simple import SimpleExplainer as SimpleExplainer
from .single_token import SingleTokenExplainer as SingleTokenExplainer
from .stored import StoredExplainer as StoredExplainer
from .token_activation_pairs import TokenActivationPairsExplainer as TokenActivationPairsExplainer

__all__: list[str]
