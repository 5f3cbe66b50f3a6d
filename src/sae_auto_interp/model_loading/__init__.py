"""Loading what others wrote with transformers: models, tokenizers, configurations.

One model at a time is loaded: while transformers makes one, it has changed what torch does in every thread. Two that
are loaded side by side (a run's subject model and the model that reads texts, say) may come out with weights that were
never filled ("Cannot copy out of meta tensor"), or find a library that is only half imported.
"""

from threading import RLock

LOADING = RLock()
"""Held while a model is made; whoever loads one takes it."""
