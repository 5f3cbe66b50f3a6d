"""Explain the features of sparse autoencoders in words, and score the explanations.

The names below load on first use (PEP 562): importing the package loads neither torch nor numpy.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"
