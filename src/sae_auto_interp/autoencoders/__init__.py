"""Sparse autoencoders: one file per public weight format, nearly all read into one form, `SparseCoder`.

`load_autoencoders` finds the format from the files, here or on the hub; `load_oai_autoencoders`,
`load_eai_autoencoders`, `load_sam_autoencoders` and the others read one format each. All attach coders to a model and
return {module path: submodule}. `NeuronCoder`, `random_coder` and `CallableCoder` have no files: attach them with
`attach.attach`. `save_autoencoder` writes a coder of any format in our own. `edited_logits`, `generate_with_edits` and
`FeatureEditor` run the model with features changed. Nothing here knows about caches, features or language-model
clients.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
