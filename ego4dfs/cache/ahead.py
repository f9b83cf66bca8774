"""How much may be fetched before anybody asks for it, so that it is still there then."""

from __future__ import annotations

import sqlite3
import time

from ego4dfs.cache.eviction import PASSING_BLOCKS, PASSING_SHARE
from ego4dfs.cache.index import BlockIndex

_SHARE = 8  # of the cache, at most, is unread
_NEARLY_FULL_BYTES = 256 << 20
_KEPT_S = 1.0  # each look is a few queries


class Ahead:
    """Bounds on what is fetched ahead, for a cache as full as it is now.

    Safe from several threads; two that look at the same time find the same.
    """

    def __init__(self, index: BlockIndex) -> None:
        """Look at the index of blocks."""
        self._index = index
        self._found = (0, 0)
        self._until_s = 0.0

    def bounds(self) -> tuple[int, int]:
        """Return how many blocks, and how many bytes of them, may wait in the cache unread."""
        if time.monotonic() >= self._until_s:
            try:
                self._found = self._look()
            except sqlite3.Error:
                self._found = (0, 0)
            self._until_s = time.monotonic() + _KEPT_S
        return self._found

    def _look(self) -> tuple[int, int]:
        figures = self._index.look()
        limit = figures.max_bytes
        blocks = limit // _SHARE // 4096
        is_full = figures.used_bytes > limit - _NEARLY_FULL_BYTES
        if is_full and figures.policy == "none":
            # What came first stays, and only so many of the newest are on their way through.
            blocks = max(PASSING_BLOCKS, figures.blocks // PASSING_SHARE) // 2
        return (0, 0) if figures.is_held else (blocks, limit // _SHARE)
