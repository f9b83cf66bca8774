"""CacheAdmin: limits, pins, verification and clearing of a block cache, for commands.

diskcache has no query for pinned rows, so its table is read directly.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ego4dfs.cache import cleanup
from ego4dfs.cache.cleanup import CacheReport
from ego4dfs.cache.index import BlockIndex
from ego4dfs.cache.writer import BlockWriter
from ego4dfs.errors import CacheError
from ego4dfs.sqlite import LOCK_STEP_S, connect, retry_while_locked
from ego4dfs.text import human_size

PIN_SHARE = 0.8
"""Share of the limit that pinned blocks may take: other data needs room, too."""

_LOCK_WAIT_S = 3.0


@dataclass(frozen=True, slots=True)
class Pin:
    """The pinned blocks of one object, and their size on disk."""

    url: str
    blocks: int
    bytes: int


class CacheAdmin:
    """Maintenance of one block cache. Safe from several threads and processes.

    Methods wait longer for another process that has locked the index than reads and writes of
    blocks do. They raise CacheError if it stays locked, and sqlite3.Error for other failures;
    `verify` and `clear` raise OSError if a file cannot be opened or removed.
    """

    def __init__(self, directory: Path, index: BlockIndex, writer: BlockWriter) -> None:
        """Maintain the blocks in `directory`, counted by `index` and written by `writer`."""
        self._directory = directory
        self._index = index
        self._writer = writer

    @property
    def max_bytes(self) -> int:
        """The limit in bytes; any mount of this directory may have set it."""
        return self._index.max_bytes

    @property
    def eviction(self) -> str:
        """The eviction policy, `lru` or `none`; any mount of this directory may have set it."""
        return self._index.eviction

    @property
    def used_bytes(self) -> int:
        """Bytes that the cache takes on disk."""
        return self._index.used_bytes

    def __len__(self) -> int:
        """Count the blocks."""
        return len(self._index)

    @property
    def bytes_left_to_pin(self) -> int:
        """Bytes that can still be pinned."""
        return max(0, int(self.max_bytes * PIN_SHARE) - pinned_bytes(self._directory))

    def pin(self, object_id: str, keys: Iterable[str]) -> int:
        """Pin the blocks of an object: those in the cache, and those that are put from now on.

        A pinned block is not evicted until `unpin`. `clear` removes it, and so does a check that
        finds it damaged. Returns how many of the blocks are in the cache.
        """
        self._writer.pinned_objects.add(object_id)
        return self._index.pin(keys)

    def unpin(self, urls: Iterable[str] | None = None) -> int:
        """Allow eviction of the blocks of these objects, or of all; return their number."""
        self._writer.pinned_objects.clear()
        wanted = None if urls is None else frozenset(urls)
        rows = _query(self._directory, "SELECT key, tag FROM Cache WHERE expire_time IS NOT NULL")
        keys = (key for key, url in rows if wanted is None or url in wanted)
        return self._index.pin(keys, on=False)

    def pins(self) -> list[Pin]:
        """Return the pinned objects."""
        return _pins(self._directory)

    def pinned_keys(self) -> frozenset[str]:
        """Return the keys of the pinned blocks and parts."""
        rows = _query(self._directory, "SELECT key FROM Cache WHERE expire_time IS NOT NULL")
        return frozenset(key for (key,) in rows)

    def verify(self) -> CacheReport:
        """Check every block, remove the damaged ones, and remove files without a row."""
        return cleanup.verify(self._directory, self._index)

    def clear(self) -> int:
        """Remove all blocks and return their number; running mounts fetch them again."""
        count = self._index.clear()
        self._writer.verified.clear()
        cleanup.remove_strays(self._directory, self._index)
        return count


def pinned_bytes(directory: Path) -> int:
    """Return the size of the pinned blocks; 0 if there is no cache, or it cannot be read."""
    if not (directory / "cache.db").exists():
        return 0
    try:
        return sum(pin.bytes for pin in _pins(directory))
    except sqlite3.Error:
        return 0  # opening it as a cache reports the error


def check_limit(directory: Path, max_bytes: int | None) -> None:
    """Raise CacheError if the pinned blocks take more than PIN_SHARE of a new limit."""
    pinned = pinned_bytes(directory) if max_bytes is not None else 0
    if max_bytes is not None and pinned > max_bytes * PIN_SHARE:
        raise CacheError(
            f"a cache of {human_size(max_bytes)} is too small for its pinned blocks,"
            f" which take {human_size(pinned)}",
            hint="unpin objects with `ego4dfs cache unpin`, or give a larger --cache-size",
        )


def _pins(directory: Path) -> list[Pin]:
    query = "SELECT tag, COUNT(*), SUM(size) FROM Cache WHERE expire_time IS NOT NULL"
    return [Pin(*row) for row in _query(directory, f"{query} GROUP BY tag ORDER BY tag")]


def _query(directory: Path, query: str) -> list[tuple[Any, ...]]:
    uri = f"{(directory / 'cache.db').absolute().as_uri()}?mode=ro"
    return retry_while_locked(lambda: _fetch_all(uri, query), wait_s=_LOCK_WAIT_S)


def _fetch_all(uri: str, query: str) -> list[tuple[Any, ...]]:
    with closing(connect(uri, lock_wait_s=LOCK_STEP_S)) as database:
        return database.execute(query).fetchall()
