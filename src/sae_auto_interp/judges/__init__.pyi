"""The public names, each with the module that it is in; they load when they are first used."""

from .embedding import EmbeddingJudge as EmbeddingJudge
from .function import FunctionJudge as FunctionJudge
from .hidden import HiddenJudge as HiddenJudge
from .lexical import LexicalJudge as LexicalJudge
from .llm import LlmJudge as LlmJudge

__all__: list[str]
