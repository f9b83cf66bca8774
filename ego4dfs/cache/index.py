"""The index of blocks: diskcache counts, bounds and evicts; the files stay ours to read.

diskcache gives what is hard: one count of bytes over all processes, least-recently-used order,
crash safety. Two of its habits are bent here. A block's file name follows from its key, so a hit
needs no SQLite at all. A row is written *before* its file: the bytes are reserved, room is made,
and only then do they reach the disk, so the bound holds at every moment and a crash leaves a row
without a file (found out at the next read) instead of a file that nothing counts.

A pin is diskcache's expiry, set so far ahead that it never comes: eviction here passes over rows
that have one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diskcache

from ego4dfs.cache.blockfile import allocated_bytes
from ego4dfs.errors import CacheError

_LOCK_WAIT_S = 30
_MODE_BINARY = 2  # diskcache's own mark for "the value is in a file"
_PIN_S = 100 * 365 * 86_400.0
_POLICY = "least-recently-used-unpinned"
diskcache.EVICTION_POLICY[_POLICY] = {
    **diskcache.EVICTION_POLICY["least-recently-used"],
    "cull": "SELECT {fields} FROM Cache WHERE expire_time IS NULL ORDER BY access_time LIMIT ?",
}


@dataclass(frozen=True, slots=True)
class Pin:
    """The pinned blocks of one object, and what they take on disk."""

    url: str
    blocks: int
    bytes: int


class Reservation:
    """The value handed to diskcache for a block: only its length in bytes."""

    __slots__ = ("length",)

    def __init__(self, length: int) -> None:
        self.length = length


class _BlockDisk(diskcache.Disk):  # type: ignore[misc]
    """Name files after keys, write none, and pickle nothing (CVE-2025-69872)."""

    def put(self, key: object) -> tuple[str, bool]:
        if type(key) is not str:
            raise TypeError(f"block keys are text, not {type(key).__name__}")
        return key, True

    def get(self, key: object, raw: object) -> str:
        if not raw or type(key) is not str:
            raise TypeError("the cache index holds a key that ego4dfs did not write")
        return key

    def store(self, value: object, read: object, key: object = None) -> tuple[int, int, str, None]:
        del read
        if type(value) is not Reservation or type(key) is not str:
            raise TypeError("only reservations of blocks are stored")
        return allocated_bytes(value.length), _MODE_BINARY, relative_name(key), None

    def fetch(self, mode: object, filename: object, value: object, read: object) -> bool:
        del mode, filename, value, read
        return True  # the row is there; the bytes are read elsewhere

    def remove(self, file_path: str) -> None:
        with suppress(OSError):
            Path(self._directory, file_path).unlink()


_NONE: frozenset[str] = frozenset()


def pinned_bytes(directory: Path) -> int:
    """Return what the pinned blocks of a cache take, 0 where there is none."""
    path = directory / "cache.db"
    if not path.exists():
        return 0
    try:
        query = "SELECT COALESCE(SUM(size), 0) FROM Cache WHERE expire_time IS NOT NULL"
        return int(_rows(path, query)[0][0])
    except sqlite3.Error:
        return 0  # a new or a damaged one: opening it will tell


def _rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    """Ask the index what diskcache has no question for."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=_LOCK_WAIT_S)) as database:
        return database.execute(query).fetchall()


def relative_name(key: str) -> str:
    """Return where a block lives below the cache: 256 directories, by the key's first byte."""
    return f"{key[:2]}/{key[2:]}"


class BlockIndex:
    """Which blocks are reserved, how many bytes they take, and which leave first.

    Safe from several threads and processes. Raises CacheError when the index cannot be used.
    """

    def __init__(self, directory: Path, max_bytes: int | None) -> None:
        """Open or create the index; `max_bytes` None keeps the limit that is stored in it."""
        self._path = directory / "cache.db"
        settings: dict[str, Any] = {} if max_bytes is None else {"size_limit": max_bytes}
        try:
            self._cache = diskcache.Cache(
                str(directory),
                timeout=_LOCK_WAIT_S,
                disk=_BlockDisk,
                eviction_policy=_POLICY,
                cull_limit=0,  # room is made by `reserve`, for the whole batch
                **settings,
            )
        except Exception as error:  # sqlite3 and diskcache raise many kinds here
            raise CacheError(
                f"the cache index in {directory} cannot be opened: {error}",
                hint="if it is damaged, `ego4dfs cache clear` makes a new one",
            ) from error

    @property
    def max_bytes(self) -> int:
        """The bound on the bytes of all blocks, as stored; another process may change it."""
        return int(self._cache.reset("size_limit"))

    @property
    def used_bytes(self) -> int:
        """Bytes that the blocks and the index take on disk."""
        return int(self._cache.volume())

    def __len__(self) -> int:
        """Count the blocks that are reserved."""
        return len(self._cache)

    def reserve(self, blocks: Iterable[tuple[str, int, str, bool]]) -> tuple[int, frozenset[str]]:
        """Make room for blocks given as (key, length, url, whether to pin it).

        Returns how many others left, and which of these found no room because of pins. After it
        the bytes of all rows, these included, are below the bound. Raises diskcache.Timeout or
        sqlite3.Error when another process holds the index too long.
        """
        wanted = []
        with self._cache.transact():
            for key, length, url, is_pinned in blocks:
                wanted.append(key)
                if self._cache.get(key) is None:
                    expire = _PIN_S if is_pinned else None
                    self._cache.set(key, Reservation(length), tag=url, expire=expire)
        self._cache.reset("size_limit")
        left = int(self._cache.cull())
        homeless = frozenset(key for key in wanted if key not in self._cache) if left else _NONE
        return left - len(homeless), homeless

    def pin(self, keys: Iterable[str]) -> int:
        """Keep blocks from eviction; unknown keys are passed over. Returns how many there were."""
        with self._cache.transact():
            return sum(bool(self._cache.touch(key, expire=_PIN_S)) for key in keys)

    def unpin(self, urls: Iterable[str] | None = None) -> int:
        """Let the pinned blocks of these objects, or of all, be evicted again; count them."""
        rows = self._rows("SELECT key, tag FROM Cache WHERE expire_time IS NOT NULL")
        wanted = None if urls is None else frozenset(urls)
        keys = [key for key, tag in rows if wanted is None or tag in wanted]
        with self._cache.transact():
            return sum(bool(self._cache.touch(key, expire=None)) for key in keys)

    def pins(self) -> list[Pin]:
        """Return what is pinned, object by object."""
        query = "SELECT tag, COUNT(*), SUM(size) FROM Cache WHERE expire_time IS NOT NULL"
        return [Pin(*row) for row in self._rows(f"{query} GROUP BY tag ORDER BY tag")]

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        return _rows(self._path, query)

    def touch(self, keys: Iterable[str]) -> None:
        """Record that blocks were read just now; unknown keys are passed over."""
        with self._cache.transact():
            for key in keys:
                self._cache.get(key)

    def forget(self, key: str) -> None:
        """Drop one row and its file."""
        self._cache.delete(key)

    def keys(self) -> Iterator[str]:
        """Yield the keys of all rows, oldest first."""
        return iter(self._cache)

    def clear(self) -> int:
        """Drop all rows and files and return how many there were."""
        return int(self._cache.clear())

    def close(self) -> None:
        """Close this thread's connection."""
        self._cache.close()
