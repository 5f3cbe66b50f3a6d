"""The subject model: loaded behind NNsight, its activations at chosen modules, and digests of its weights."""
