"""Sparse autoencoders: one file per public weight format, nearly all read into one form, `SparseCoder`.

`load_autoencoders` finds the format from the files, here or on the hub; `load_oai_autoencoders`,
`load_eai_autoencoders`, `load_sam_autoencoders` and the others read one format each. All attach coders to a model and
return {module path: submodule}. `NeuronCoder`, `random_coder` and `CallableCoder` have no files: attach them with
`attach.attach`. `save_autoencoder` writes a coder of any format in our own. `edited_logits`, `generate_with_edits` and
`FeatureEditor` run the model with features changed. Nothing here knows about caches, features or language-model
clients.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sae_auto_interp.autoencoders.callable_coder import CallableCoder
    from sae_auto_interp.autoencoders.coder import Coder
    from sae_auto_interp.autoencoders.detect import load_autoencoders
    from sae_auto_interp.autoencoders.editing.coder_editor import FeatureEditor
    from sae_auto_interp.autoencoders.editing.edits import FeatureEdit, Positions, Replacement
    from sae_auto_interp.autoencoders.editing.runs import edited_logits, generate_with_edits
    from sae_auto_interp.autoencoders.families.circuit_tracer import load_circuit_tracer_transcoders
    from sae_auto_interp.autoencoders.families.crosscoder import load_crosscoder
    from sae_auto_interp.autoencoders.families.dictionary_learning import load_sam_autoencoders
    from sae_auto_interp.autoencoders.families.gemma_scope import load_gemma_scope_autoencoders
    from sae_auto_interp.autoencoders.families.gemma_scope_2 import load_gemma_scope_2_autoencoders
    from sae_auto_interp.autoencoders.families.goodfire import load_goodfire_autoencoder
    from sae_auto_interp.autoencoders.families.llama_scope import load_llama_scope_autoencoders
    from sae_auto_interp.autoencoders.families.openai import load_oai_autoencoders
    from sae_auto_interp.autoencoders.families.own_format import save_autoencoder
    from sae_auto_interp.autoencoders.families.qwen_scope import load_qwen_scope_autoencoders
    from sae_auto_interp.autoencoders.families.saelens import load_saelens_autoencoders
    from sae_auto_interp.autoencoders.families.sparsify import load_eai_autoencoders
    from sae_auto_interp.autoencoders.neurons import NeuronCoder
    from sae_auto_interp.autoencoders.random_weights import random_coder
    from sae_auto_interp.autoencoders.sparse_coder import SparseCoder

__all__ = [
    "CallableCoder",
    "Coder",
    "FeatureEdit",
    "FeatureEditor",
    "NeuronCoder",
    "Positions",
    "Replacement",
    "SparseCoder",
    "edited_logits",
    "generate_with_edits",
    "load_autoencoders",
    "load_circuit_tracer_transcoders",
    "load_crosscoder",
    "load_eai_autoencoders",
    "load_gemma_scope_2_autoencoders",
    "load_gemma_scope_autoencoders",
    "load_goodfire_autoencoder",
    "load_llama_scope_autoencoders",
    "load_oai_autoencoders",
    "load_qwen_scope_autoencoders",
    "load_saelens_autoencoders",
    "load_sam_autoencoders",
    "random_coder",
    "save_autoencoder",
]

_HOMES = {
    "CallableCoder": "callable_coder",
    "Coder": "coder",
    "FeatureEdit": "edits",
    "FeatureEditor": "coder_editor",
    "NeuronCoder": "neurons",
    "Positions": "edits",
    "Replacement": "edits",
    "SparseCoder": "sparse_coder",
    "edited_logits": "editing",
    "generate_with_edits": "editing",
    "load_autoencoders": "detect",
    "load_circuit_tracer_transcoders": "circuit_tracer",
    "load_crosscoder": "crosscoder",
    "load_eai_autoencoders": "sparsify",
    "load_gemma_scope_2_autoencoders": "gemma_scope_2",
    "load_gemma_scope_autoencoders": "gemma_scope",
    "load_goodfire_autoencoder": "goodfire",
    "load_llama_scope_autoencoders": "llama_scope",
    "load_oai_autoencoders": "openai",
    "load_qwen_scope_autoencoders": "qwen_scope",
    "load_saelens_autoencoders": "saelens",
    "load_sam_autoencoders": "dictionary_learning",
    "random_coder": "random_weights",
    "save_autoencoder": "own_format",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
