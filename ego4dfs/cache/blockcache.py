"""BlockCache: put blocks in, read parts of them out, never above the bound."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from ego4dfs.cache import blockfile, pins, upkeep
from ego4dfs.cache.ahead import Ahead
from ego4dfs.cache.checked import Checked
from ego4dfs.cache.database import relative_name
from ego4dfs.cache.directory import doubt_limit, private_directory, share_of_disk
from ego4dfs.cache.index import BlockIndex, Figures
from ego4dfs.cache.upkeep import CacheReport
from ego4dfs.cache.writer import BlockWriter, Put
from ego4dfs.metrics import Metrics
from ego4dfs.runtime.deadline import CLOSE_S
from ego4dfs.runtime.throttled_log import ThrottledLog

log = logging.getLogger(__name__)

CLOSE_WAIT_S = CLOSE_S / 4
"""How long an end waits for the disk at the least."""


class BlockCache:
    """Blocks of objects on disk, bounded, shared by threads, mounts and processes.

    A read opens the block's file by its name, past the index. One writer thread reserves room and
    writes; it starts with the first hit or `put`, so a cache may be opened before a fork. A cache
    that cannot be written goes on serving what it has: a failed write costs the next reader a
    request, never an error.
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

        None keeps what an existing cache has; a new one takes a share of the free disk, and lru.
        Raises CacheError when the pinned blocks need more.
        """
        self._directory = private_directory(inner / "blocks")
        if max_bytes is None and not (self._directory / "cache.db").exists():
            max_bytes = share_of_disk(self._directory)
        elif max_bytes is not None:
            doubt_limit(self._directory, max_bytes)
        pins.check_limit(self._directory, max_bytes)
        self._index = BlockIndex(self._directory, max_bytes, eviction)
        self.ahead = Ahead(self._index)
        self._metrics = metrics
        self._prefix = f"{self._directory}/"
        self._checked = Checked()
        self._writer = BlockWriter(self._directory, self._index, self._checked, metrics)
        self._unreadable, self._busy = ThrottledLog(log), ThrottledLog(log)

    @property
    def max_bytes(self) -> int:
        """The bound in bytes; the last that any mount of this directory was given."""
        return self._index.max_bytes

    @property
    def eviction(self) -> str:
        """What leaves first, `lru` or `none`; the last that any mount of this directory said."""
        return self._index.eviction

    @property
    def used_bytes(self) -> int:
        """Bytes taken now, on disk."""
        return self._index.used_bytes

    def look(self) -> Figures:
        """Return how full the cache is, without waiting for a process that holds the index.

        Raises sqlite3.Error when the index cannot be read.
        """
        return self._index.look()

    def __len__(self) -> int:
        return len(self._index)

    def contains(self, key: str) -> bool:
        """Tell whether the block's file is there, without a check of its bytes."""
        return os.path.exists(self._prefix + relative_name(key))  # noqa: PTH110 - hot path

    def read_into(self, key: str, start: int, view: memoryview, *, is_use: bool = True) -> bool:
        """Fill `view` with the block's bytes from `start` on; False when it cannot be had here.

        A block is checked as a whole before its first use in this process; one that is damaged
        is dropped and reported as not there. One that cannot be opened now stays. Without `is_use`
        the order of use stays as it is.
        """
        path = self._prefix + relative_name(key)
        try:
            if key not in self._checked:
                if not blockfile.is_sound(path, key):
                    return self._drop(key, "is damaged")
                self._checked.note(key)
            if not blockfile.read_into(path, start, view):
                return self._drop(key, "is cut short")
        except FileNotFoundError:
            self._checked.discard(key)
            return False
        except OSError as error:
            if error.errno == errno.EIO:
                return self._drop(key, f"cannot be read ({error.strerror})")
            self._unreadable.warning("cached block %s cannot be opened: %s", key, error)
            return False  # no descriptors, no memory: that says nothing about the block
        if is_use:
            self._writer.touched.add(key)
            if not self._writer.is_started:
                self._writer.record_touches()
        return True

    def put(self, key: str, url: str, data: memoryview, done: Callable[[bool], None]) -> None:
        """Hand a block to the writer; `done` is told once whether it is on disk or given up."""
        self._writer.put(Put(key, url, data, done))

    def drop(self, keys: Iterable[str], why: str) -> None:
        """Drop those of some blocks that are here: their bytes were found wrong."""
        for key in keys:
            if self.contains(key):
                self._drop(key, why)

    @property
    def room_to_pin(self) -> int:
        """Bytes that may still be pinned."""
        return max(0, int(self.max_bytes * pins.PIN_SHARE) - pins.pinned_bytes(self._directory))

    def pin(self, object_id: str, keys: Iterable[str]) -> int:
        """Pin the blocks of an object: those that are here, counted, and those put from now on.

        A pinned block leaves only by `unpin`, `clear`, or by being damaged.
        """
        self._writer.pinning.add(object_id)
        return self._index.pin(keys)

    def unpin(self, urls: Iterable[str] | None = None) -> int:
        """Let the blocks of these objects, or of all, be evicted again; count the blocks."""
        self._writer.pinning.clear()
        wanted = None if urls is None else frozenset(urls)
        found = pins.pinned_keys(self._directory)
        return self._index.pin((k for k, u in found if wanted is None or u in wanted), on=False)

    def pins(self) -> list[pins.Pin]:
        """Return what is pinned, object by object."""
        return pins.pins(self._directory)

    def forget(self, keys: Iterable[str]) -> None:
        """Drop blocks, pinned or not, whose bytes are not the object's."""
        for key in keys:
            self._checked.discard(key)
            if self.contains(key):
                self._remove(key)

    def verify(self) -> CacheReport:
        """Check every block, drop the damaged, and remove files that no row counts."""
        return upkeep.verify(self._directory, self._index)

    def clear(self) -> int:
        """Drop every block and return how many there were; running mounts fetch anew."""
        count = self._index.clear()
        self._checked.clear()
        upkeep.remove_strays(self._directory, self._index)
        return count

    def close(self, timeout_s: float = CLOSE_WAIT_S) -> None:
        """Write what was handed over, and stop the writer; one that hangs is left to itself."""
        self._writer.close(timeout_s)

    def _drop(self, key: str, what: str) -> bool:
        log.warning("cached block %s %s; it will be fetched again", key, what)
        self._metrics.add_error(f"cached block {key} {what}; fetched again")
        self._remove(key)
        return False

    def _remove(self, key: str) -> None:
        """Remove a block's row and file; the file also while another process holds the index."""
        self._checked.discard(key)
        try:
            self._index.forget(key)
        except sqlite3.Error as error:
            self._busy.warning("the cache index is busy: %s", error)
        with suppress(OSError):  # not there, or not ours to remove
            Path(self._prefix + relative_name(key)).unlink()
