"""The subject model: loaded behind NNsight, and its activations at chosen modules."""
