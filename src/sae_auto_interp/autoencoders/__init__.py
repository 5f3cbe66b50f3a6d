"""Sparse autoencoders: one file per public weight format, all read into one form, `SparseCoder`.

`load_oai_autoencoders`, `load_eai_autoencoders` and `load_saelens_autoencoders` each attach coders to a
model that NNsight wraps and return {module path: submodule}; `load_autoencoders` finds the format from
the files. `edited_logits`, `generate_with_edits` and `FeatureEditor` run the model with features
changed. Nothing here knows about caches, features or language-model clients.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sae_auto_interp.autoencoders.coder_editor import FeatureEditor
    from sae_auto_interp.autoencoders.detect import load_autoencoders
    from sae_auto_interp.autoencoders.editing import edited_logits, generate_with_edits
    from sae_auto_interp.autoencoders.edits import FeatureEdit, Positions, Replacement
    from sae_auto_interp.autoencoders.openai import load_oai_autoencoders
    from sae_auto_interp.autoencoders.saelens import load_saelens_autoencoders
    from sae_auto_interp.autoencoders.sparse_coder import SparseCoder
    from sae_auto_interp.autoencoders.sparsify import load_eai_autoencoders

__all__ = [
    "FeatureEdit",
    "FeatureEditor",
    "Positions",
    "Replacement",
    "SparseCoder",
    "edited_logits",
    "generate_with_edits",
    "load_autoencoders",
    "load_eai_autoencoders",
    "load_oai_autoencoders",
    "load_saelens_autoencoders",
]

_HOMES = {
    "FeatureEdit": "edits",
    "FeatureEditor": "coder_editor",
    "Positions": "edits",
    "Replacement": "edits",
    "SparseCoder": "sparse_coder",
    "edited_logits": "editing",
    "generate_with_edits": "editing",
    "load_autoencoders": "detect",
    "load_eai_autoencoders": "sparsify",
    "load_oai_autoencoders": "openai",
    "load_saelens_autoencoders": "saelens",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
