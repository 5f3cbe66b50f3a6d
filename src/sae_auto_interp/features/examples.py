"""Selected windows -> a record with its text: tokens, strings and activations of all examples at once."""

from collections.abc import Iterator
from itertools import accumulate, chain, pairwise, repeat

from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.features.selection import Selection
from sae_auto_interp.features.vocabulary import Vocabulary
from sae_auto_interp.types import Example, FeatureRecord, NonActivating


def record_of(selection: Selection, grid: WindowGrid, vocabulary: Vocabulary) -> FeatureRecord:
    """The record of a feature, complete."""
    every = tuple(_examples(selection, grid, vocabulary))
    pools = (every[begin:end] for begin, end in pairwise(accumulate(selection.sizes, initial=0)))
    train, test, dev, explain, silent, silent_dev = pools
    non_activating = NonActivating(explain, silent, silent_dev)
    return FeatureRecord(
        selection.feature, selection.stats, train, test, non_activating, dev, shortages=selection.shortages
    )


def _examples(selection: Selection, grid: WindowGrid, vocabulary: Vocabulary) -> Iterator[Example]:
    windows = selection.windows
    tokens = grid.tokens_at(windows.starts)
    rows = windows.starts // grid.rows.ctx_len
    return map(
        Example,
        tokens,
        vocabulary.windows(tokens),
        selection.activations,
        rows.tolist(),
        (windows.starts - rows * grid.rows.ctx_len).tolist(),
        windows.documents.tolist(),
        windows.sources,
        chain(windows.quantiles.tolist(), repeat(None)),
        windows.neighbours,
        windows.distances,
    )
