"""What the readers of one cache in an older layout share: the shards in memory, and how many rows were cached."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from sae_auto_interp.cache.older.files import OlderShard, SortedShard

_logger = logging.getLogger(__name__)


class LoadedShards:
    """The shards looked at last, sorted, in memory; shared by the readers of one cache."""

    CAPACITY: ClassVar[int] = 2

    def __init__(self) -> None:
        self._kept: OrderedDict[Path, SortedShard] = OrderedDict()

    def get(self, path: Path, load: Callable[[], SortedShard]) -> SortedShard:
        """The shard in `path`, loaded if need be; the one not used for longest makes room first."""
        if path not in self._kept:
            while len(self._kept) >= self.CAPACITY:
                self._kept.popitem(last=False)
            self._kept[path] = load()
        self._kept.move_to_end(path)
        return self._kept[path]


class RowCount:
    """Rows of a cache that stores no tokens: the last one with an activation, over all modules of the run.

    Counting reads every location once; it happens when the number is first asked for.
    """

    def __init__(self, shards: Sequence[OlderShard], ctx_len: int) -> None:
        self._shards = shards
        self._ctx_len = ctx_len

    @cached_property
    def value(self) -> int:
        counts = [self._rows_of(shard) for shard in self._shards]
        _logger.info("no tokens are stored: the last of %d rows with an activation counts as the last", max(counts))
        return max(counts)

    def _rows_of(self, shard: OlderShard) -> int:
        rows = shard.columns()[0]
        if len(rows) == 0:
            return 0
        if not 0 <= int(rows.min()) <= int(rows.max()) < np.iinfo(np.int64).max // self._ctx_len:
            raise shard.garbled(f"rows {int(rows.min())}..{int(rows.max())}")
        return int(rows.max()) + 1
