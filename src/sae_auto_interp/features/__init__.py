"""The cache seen as feature records: what is evidence for an explanation, and what it is tested on."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
