"""The public names, each with the module that it is in; they load when they are first used."""

from .attach import attached_coder as attached_coder
from .callable_coder import CallableCoder as CallableCoder
from .coder import Coder as Coder
from .detect import load_autoencoders as load_autoencoders
from .editing.coder_editor import FeatureEditor as FeatureEditor
from .editing.edits import FeatureEdit as FeatureEdit, Positions as Positions, Replacement as Replacement
from .editing.runs import edited_logits as edited_logits, generate_with_edits as generate_with_edits
from .families.circuit_tracer import load_circuit_tracer_transcoders as load_circuit_tracer_transcoders
from .families.crosscoder import load_crosscoder as load_crosscoder
from .families.dictionary_learning import load_sam_autoencoders as load_sam_autoencoders
from .families.gemma_scope import load_gemma_scope_autoencoders as load_gemma_scope_autoencoders
from .families.gemma_scope_2 import load_gemma_scope_2_autoencoders as load_gemma_scope_2_autoencoders
from .families.goodfire import load_goodfire_autoencoder as load_goodfire_autoencoder
from .families.llama_scope import load_llama_scope_autoencoders as load_llama_scope_autoencoders
from .families.openai import load_oai_autoencoders as load_oai_autoencoders
from .families.own_format import save_autoencoder as save_autoencoder
from .families.qwen_scope import load_qwen_scope_autoencoders as load_qwen_scope_autoencoders
from .families.saelens import load_saelens_autoencoders as load_saelens_autoencoders
from .families.sparsify import load_eai_autoencoders as load_eai_autoencoders
from .neurons import NeuronCoder as NeuronCoder
from .random_weights import random_coder as random_coder
from .settings import CoderSettings as CoderSettings
from .sparse_coder import CoderWeights as CoderWeights, SparseCoder as SparseCoder

__all__: list[str]
