"""The subject model: loaded behind NNsight, its activations at any site, and digests of its weights."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
