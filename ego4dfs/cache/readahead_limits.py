"""Limits on read-ahead: how much of it the cache can keep until it is read."""

from __future__ import annotations

import sqlite3
import time
from typing import NamedTuple

from ego4dfs.cache.eviction import TRANSIENT_BLOCKS, TRANSIENT_SHARE
from ego4dfs.cache.index import BlockIndex

_SHARE = 8  # an eighth of the cache, at most, is unread
_NEARLY_FULL_BYTES = 256 << 20
_REFRESH_S = 1.0  # each refresh costs a few queries


class ReadaheadLimit(NamedTuple):
    """How many blocks, and how many bytes of them, may wait in the cache unread."""

    blocks: int
    bytes: int


class ReadaheadLimits:
    """The limits of a cache, computed from how full it is.

    Safe from several threads; two that refresh at the same time get the same result.
    """

    def __init__(self, index: BlockIndex) -> None:
        """Take the figures from the index of blocks."""
        self._index = index
        self._limit = ReadaheadLimit(0, 0)
        self._expires_s = 0.0

    def current(self) -> ReadaheadLimit:
        """Return the limit, at most a second old; (0, 0) if the index is locked or unreadable."""
        if time.monotonic() >= self._expires_s:
            try:
                self._limit = self._compute()
            except sqlite3.Error:
                self._limit = ReadaheadLimit(0, 0)
            self._expires_s = time.monotonic() + _REFRESH_S
        return self._limit

    def _compute(self) -> ReadaheadLimit:
        usage = self._index.usage()
        if usage.is_locked:
            return ReadaheadLimit(0, 0)
        blocks = usage.max_bytes // _SHARE // 4096
        is_full = usage.used_bytes > usage.max_bytes - _NEARLY_FULL_BYTES
        if is_full and usage.policy == "none":
            # The oldest blocks stay; only this many of the newest are transient.
            blocks = max(TRANSIENT_BLOCKS, usage.blocks // TRANSIENT_SHARE) // 2
        return ReadaheadLimit(blocks, usage.max_bytes // _SHARE)
