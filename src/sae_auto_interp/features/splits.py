"""Which documents may be shown to the explainer, and which are for scoring.

The unit is the document, per feature: two windows of one document share topic, author and words, so a test window
from a document that the explainer saw would be half known. Documents in which the feature fires are dealt so that
each side gets its share of active windows; the others are dealt at random.
"""

import numpy as np
from jaxtyping import Bool, Int32

from sae_auto_interp.types import Array


def training_documents(
    active_documents: Int32[Array, " n_active_windows"],
    n_documents: int,
    train_fraction: float,
    rng: np.random.Generator,
) -> Bool[Array, " n_documents"]:
    """True for the documents of the explainer's side; `active_documents` has one entry per active window.

    The fullest documents are dealt first, each to the side that is behind its share; chance decides when neither is.
    """
    is_train = rng.random(n_documents) < train_fraction
    documents, counts = np.unique(active_documents, return_counts=True)
    order = rng.permutation(len(documents))
    n_train = n_test = 0
    for i in order[np.argsort(-counts[order], kind="stable")]:
        behind = n_test * train_fraction - n_train * (1 - train_fraction)
        to_train = behind > 0 or (behind == 0 and rng.random() < train_fraction)
        is_train[documents[i]] = to_train
        if to_train:
            n_train += int(counts[i])
        else:
            n_test += int(counts[i])
    return is_train
