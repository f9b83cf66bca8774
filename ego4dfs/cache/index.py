"""The index of blocks: diskcache counts, bounds and evicts; the files stay ours to read.

diskcache gives what is hard: one count of bytes over all processes, least-recently-used order,
crash safety. Two of its habits are bent here. A block's file name follows from its key, so a hit
needs no SQLite at all. A row is written *before* its file: the bytes are reserved, room is made,
and only then do they reach the disk, so the bound holds at every moment and a crash leaves a row
without a file (found out at the next read) instead of a file that nothing counts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import diskcache

from ego4dfs.cache.blockfile import allocated_bytes
from ego4dfs.cache.eviction import POLICIES
from ego4dfs.cache.pins import PIN_S
from ego4dfs.errors import CacheError
from ego4dfs.forks import disconnect_at_forks, whole
from ego4dfs.sqliteerrors import remedy

_LOCK_WAIT_S = 30
_MODE_BINARY = 2  # diskcache's own mark for "the value is in a file"


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


class _OneConnection(diskcache.Cache):  # type: ignore[misc]
    """diskcache with one connection for all threads, which a fork can close.

    Left alone it has one for each thread, and no thread may close another's. Every call comes
    under `whole`, so they never use this one at a time.
    """

    _shared: sqlite3.Connection | None = None

    @property
    def _con(self) -> sqlite3.Connection:
        if self._shared is None:
            name = Path(self._directory, "cache.db")
            self._shared = sqlite3.connect(
                name, timeout=self._timeout, isolation_level=None, check_same_thread=False
            )
            self._restore_pragmas(self._shared)
        return self._shared

    def present(self, keys: Collection[str]) -> set[str]:
        """Return those of at most some hundred keys that have a row: `in` asks for each alone."""
        marks = ", ".join("?" * len(keys))
        query = f"SELECT key FROM Cache WHERE raw = 1 AND key IN ({marks})"  # noqa: S608
        return {key for (key,) in self._con.execute(query, tuple(keys))}

    def close(self) -> None:
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.close()

    def _restore_pragmas(self, connection: sqlite3.Connection) -> None:
        try:
            settings = connection.execute("SELECT key, value FROM Settings").fetchall()
        except sqlite3.OperationalError:
            return  # a new one, without tables
        for key, value in settings:
            if key.startswith("sqlite_"):
                self.reset(key, value, update=False)


def _opened(directory: Path, settings: Mapping[str, Any]) -> _OneConnection:
    return _OneConnection(
        str(directory),
        timeout=_LOCK_WAIT_S,
        disk=_BlockDisk,
        cull_limit=0,  # room is made by `reserve`, for the whole batch
        **settings,
    )


def relative_name(key: str) -> str:
    """Return where a block lives below the cache: 256 directories, by the key's first byte."""
    return f"{key[:2]}/{key[2:]}"


class BlockIndex:
    """Which blocks are reserved, how many bytes they take, and which leave first.

    Safe from several threads and processes. Raises CacheError when the index cannot be used.
    """

    def __init__(self, directory: Path, max_bytes: int | None, eviction: str | None = None) -> None:
        """Open or create the index; None keeps the limit or the policy that is stored in it."""
        settings: dict[str, Any] = {} if max_bytes is None else {"size_limit": max_bytes}
        if eviction is not None or not (directory / "cache.db").exists():
            settings["eviction_policy"] = POLICIES[eviction or "lru"]
        try:
            with whole:
                self._cache = _opened(directory, settings)
                if self._cache.eviction_policy not in POLICIES.values():  # of a cache before pins
                    self._cache.close()
                    policy = {"eviction_policy": POLICIES["lru"]}
                    self._cache = _opened(directory, settings | policy)
        except Exception as error:  # sqlite3 and diskcache raise many kinds here
            raise CacheError(
                f"the cache index in {directory} cannot be opened: {error}",
                hint=remedy(error, clear="ego4dfs cache clear"),
            ) from error
        disconnect_at_forks(self)

    @property
    def max_bytes(self) -> int:
        """The bound on the bytes of all blocks, as stored; another process may change it."""
        with whole:
            return int(self._cache.reset("size_limit"))

    @property
    def eviction(self) -> str:
        """The word for what leaves first, as stored; another process may change it."""
        with whole:
            policy = self._cache.reset("eviction_policy")
        return next((word for word, name in POLICIES.items() if name == policy), str(policy))

    @property
    def used_bytes(self) -> int:
        """Bytes that the blocks and the index take on disk."""
        with whole:
            return int(self._cache.volume())

    def __len__(self) -> int:
        """Count the blocks that are reserved."""
        with whole:
            return len(self._cache)

    def reserve(self, blocks: Sequence[tuple[str, int, str, bool]]) -> int:
        """Make room for blocks given as (key, length, url, pinned); return how many rows left.

        After it the bytes of all rows are below the bound. Where pins leave too little room, some
        of these rows have left again. Raises diskcache.Timeout or sqlite3.Error when another
        process holds the index too long.
        """
        with whole:
            with self._cache.transact():
                known = self._cache.present([key for key, _, _, _ in blocks])
                for key, length, url, is_pinned in blocks:
                    if key not in known:
                        expire = PIN_S if is_pinned else None
                        self._cache.set(key, Reservation(length), tag=url, expire=expire)
            self._cache.reset("size_limit")
            self._cache.reset("eviction_policy")
            return int(self._cache.cull())

    def pin(self, keys: Iterable[str], *, on: bool = True) -> int:
        """Keep blocks from eviction, or no more; returns how many of them there are."""
        expire = PIN_S if on else None
        with whole, self._cache.transact():
            return sum(bool(self._cache.touch(key, expire=expire)) for key in keys)

    def touch(self, keys: Iterable[str]) -> None:
        """Record that blocks were read just now; unknown keys are passed over."""
        with whole, self._cache.transact():
            for key in keys:
                self._cache.get(key)

    def forget(self, key: str) -> None:
        """Drop one row and its file."""
        with whole:
            self._cache.delete(key)

    def reserved(self, keys: Collection[str]) -> set[str]:
        """Return those of the blocks of one batch that are reserved."""
        with whole:
            return self._cache.present(keys)

    def keys(self) -> list[str]:
        """Return the keys of all rows, oldest first. Raises CacheError at a foreign one."""
        try:
            with whole:
                return list(self._cache)
        except TypeError as error:
            raise CacheError(str(error), hint="`ego4dfs cache clear` removes it") from error

    def clear(self) -> int:
        """Drop all rows and files and return how many there were."""
        with whole:
            return int(self._cache.clear())

    def close(self) -> None:
        """Close the connection; another use opens a new one."""
        with whole:
            self.disconnect()

    def disconnect(self) -> None:
        """Close the connection, under `whole`; the next use opens another one."""
        self._cache.close()
