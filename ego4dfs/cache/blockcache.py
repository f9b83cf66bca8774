"""BlockCache: reads and writes of blocks on disk, within a limit in bytes."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

from ego4dfs.cache import blockfile
from ego4dfs.cache.admin import CacheAdmin, check_limit
from ego4dfs.cache.blockfile import MAX_VERIFIED_KEYS, VerifiedKeys
from ego4dfs.cache.database import relative_name
from ego4dfs.cache.directory import (
    default_max_bytes,
    private_directory,
    warn_if_larger_than_disk,
)
from ego4dfs.cache.index import BlockIndex, Usage
from ego4dfs.cache.readahead_limits import ReadaheadLimits
from ego4dfs.cache.writer import BlockWriter, Put
from ego4dfs.metrics import Metrics
from ego4dfs.runtime.deadline import CLOSE_S
from ego4dfs.runtime.range_locks import RangeLocks
from ego4dfs.runtime.throttled_log import ThrottledLog

log = logging.getLogger(__name__)

CLOSE_WAIT_S = CLOSE_S / 4
"""How long `close` waits for the disk by default."""

_TEMPORARY = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # the block can be opened soon

_KEYS_TRIED = 100  # of one object: after a crash a few rows have no file


class BlockCache:
    """Blocks of objects on disk, shared by threads, mounts and processes.

    A read opens the file of the block by its name, without the index. One writer thread reserves
    space and writes; it starts with the first hit or `put`, so a cache may be opened before a
    fork. A cache that cannot be written still serves its blocks: a failed write costs the next
    reader a request, never an error. `admin` has the operations of commands.
    """

    def __init__(
        self,
        inner: Path,
        metrics: Metrics,
        *,
        max_bytes: int | None = None,
        eviction: str | None = None,
    ) -> None:
        """Open the blocks below `inner` (see prepare_directory).

        None keeps the setting of an existing cache; a new one gets a share of the free disk, and
        the policy lru. Raises CacheError, also if the pinned blocks need more than `max_bytes`.
        """
        self._directory = private_directory(inner / "blocks")
        if max_bytes is None and not (self._directory / "cache.db").exists():
            max_bytes = default_max_bytes(self._directory)
        elif max_bytes is not None:
            warn_if_larger_than_disk(self._directory, max_bytes)
        check_limit(self._directory, max_bytes)
        self._index = BlockIndex(self._directory, max_bytes, eviction)
        self._metrics = metrics
        self._prefix = f"{self._directory}/"
        self._verified = VerifiedKeys()
        self._unusable: set[str] = set()
        self._writer = BlockWriter(self._directory, self._index, self._verified, metrics)
        self._unreadable, self._locked = ThrottledLog(log), ThrottledLog(log)
        self.fetching = RangeLocks(inner / "fetching.lock")
        """Which ranges of objects a process fetches into this cache now."""
        self.readahead = ReadaheadLimits(self._index)
        self.admin = CacheAdmin(self._directory, self._index, self._writer)

    def usage(self) -> Usage:
        """Return how full the cache is, without waiting for a process that holds the index.

        Raises sqlite3.Error if the index cannot be read.
        """
        return self._index.usage()

    def contains(self, key: str) -> bool:
        """Return whether there is a file of the block, without a check of its bytes.

        False if the last read could not open it (unless only descriptors or memory were missing)
        or remove it, so that its bytes are fetched and put again.
        """
        return key not in self._unusable and os.path.exists(self._prefix + relative_name(key))  # noqa: PTH110 - hot path

    def has_any(self, object_id: str) -> bool:
        """Return whether a block or a part of an object version has a file; no check of its bytes.

        False also if the index cannot be read now.
        """
        try:
            return any(map(self.contains, self._index.keys_of(object_id, limit=_KEYS_TRIED)))
        except sqlite3.Error as error:
            self._locked.warning("the cache index cannot be read: %s", error)
            return False

    def read_into(self, key: str, start: int, view: memoryview, *, is_use: bool = True) -> bool:
        """Fill `view` with the bytes of the block from `start` on; False if it is not available.

        The checksum is verified before the first use in this process; a damaged block is removed,
        and False returned. A block that cannot be opened now is kept. Without `is_use` the read
        does not count for the order of eviction.
        """
        path = self._prefix + relative_name(key)
        try:
            if key not in self._verified:
                if not blockfile.is_valid(path, key):
                    return self._remove_damaged(key, "is damaged")
                self._verified.record(key)
            if not blockfile.read_into(path, start, view):
                return self._remove_damaged(key, "is truncated")
        except OSError as error:
            return self._note_failure(key, error)
        self._unusable.discard(key)
        if is_use:
            self._writer.touched.add(key)
            if not self._writer.is_started:
                self._writer.record_touches()
        return True

    def put(self, key: str, url: str, data: memoryview, done: Callable[[bool], None]) -> None:
        """Hand a block to the writer, which calls `done` once: True if the block is on disk."""
        self._unusable.discard(key)
        self._writer.put(Put(key, url, data, done))

    def remove(self, keys: Iterable[str], *, reason: str = "") -> None:
        """Remove these blocks from the cache, pinned or not; keys of no block are ignored.

        With a `reason`, which completes "cached block KEY ...", each removal is logged, and
        counted as an error.
        """
        for key in keys:
            if not self.contains(key):
                self._verified.discard(key)
            elif reason:
                self._remove_damaged(key, reason)
            else:
                self._remove(key)

    def close(self, timeout_s: float = CLOSE_WAIT_S) -> None:
        """Write the queued blocks and stop the writer, or return after `timeout_s` seconds."""
        self._writer.close(timeout_s)
        self.fetching.close()

    def _note_failure(self, key: str, error: OSError) -> bool:
        """Remove a block that is damaged according to the error of its read; return False."""
        if isinstance(error, FileNotFoundError):
            self._verified.discard(key)
        elif error.errno in blockfile.UNREADABLE:
            self._remove_damaged(key, f"cannot be read ({error.strerror})")
        else:  # the block itself may be valid
            self._unreadable.warning("cached block %s cannot be opened: %s", key, error)
            if error.errno not in _TEMPORARY:
                self._note_unusable(key)
        return False

    def _remove_damaged(self, key: str, reason: str) -> bool:
        log.warning("cached block %s %s; it will be fetched again", key, reason)
        self._metrics.add_error(f"cached block {key} {reason}; fetched again")
        self._remove(key)
        return False

    def _remove(self, key: str) -> None:
        """Remove a block's row and file; the file also while another process holds the index."""
        self._verified.discard(key)
        try:
            self._index.remove(key)
        except sqlite3.Error as error:
            self._locked.warning("the cache index cannot be changed: %s", error)
        try:
            blockfile.remove(Path(self._prefix + relative_name(key)))
        except FileNotFoundError:
            pass
        except OSError:  # not ours to remove, or the disk cannot be written
            self._note_unusable(key)

    def _note_unusable(self, key: str) -> None:
        if len(self._unusable) >= MAX_VERIFIED_KEYS:
            self._unusable.clear()  # the next reads find them again
        self._unusable.add(key)
