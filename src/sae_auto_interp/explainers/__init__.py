"""FeatureRecord -> Explanation, or a Failure that says why not. One explainer per file, named by it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
