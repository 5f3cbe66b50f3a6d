"""Embedding models: texts go in, one vector of length 1 per text comes out; their cosine says how alike two texts are.

    SentenceTransformersEmbedder   a local model (extra `embeddings`)
    OpenAIEmbedder                 any `/v1/embeddings` endpoint
    RememberingEmbedder            asks another embedder only for what it was not asked before

Importing this package loads neither torch nor an HTTP library; the names above are loaded when first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
