"""Selected windows -> a record with its text: tokens, strings and activations of all examples at once."""

from collections.abc import Iterator
from itertools import accumulate, chain, pairwise, repeat

from sae_auto_interp.features.grid import WindowGrid
from sae_auto_interp.features.selection import Selection
from sae_auto_interp.features.vocabulary import Vocabulary
from sae_auto_interp.types import Example, ExampleSource, FeatureRecord, NonActivating


def record_of(selection: Selection, grid: WindowGrid, vocabulary: Vocabulary) -> FeatureRecord:
    """The record of a feature, complete."""
    every = tuple(_examples(selection, grid, vocabulary))
    pools = (every[begin:end] for begin, end in pairwise(accumulate(selection.sizes, initial=0)))
    train, test, dev, explain, silent, silent_dev = pools
    non_activating = NonActivating(explain, silent, silent_dev)
    return FeatureRecord(selection.feature, selection.stats, train, test, non_activating, dev)


def _examples(selection: Selection, grid: WindowGrid, vocabulary: Vocabulary) -> Iterator[Example]:
    tokens = grid.tokens_at(selection.starts)
    rows = selection.starts // grid.rows.ctx_len
    n_activating = len(selection.quantiles)
    sources: tuple[ExampleSource, ExampleSource] = ("activating", "random")
    return map(
        Example,
        tokens,
        vocabulary.windows(tokens),
        selection.activations,
        rows.tolist(),
        (selection.starts - rows * grid.rows.ctx_len).tolist(),
        selection.documents.tolist(),
        chain(repeat(sources[0], n_activating), repeat(sources[1])),
        chain(selection.quantiles.tolist(), repeat(None)),
    )
