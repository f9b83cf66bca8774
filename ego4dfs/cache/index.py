"""The index of blocks: diskcache counts, bounds and evicts; the files stay ours to read.

diskcache gives what is hard: one count of bytes over all processes, least-recently-used order,
crash safety. Two of its habits are bent here. A block's file name follows from its key, so a hit
needs no SQLite at all. A row is written *before* its file: the bytes are reserved, room is made,
and only then do they reach the disk, so the bound holds at every moment and a crash leaves a row
without a file (found out at the next read) instead of a file that nothing counts.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from ego4dfs.cache.database import Reservation, opened
from ego4dfs.cache.eviction import POLICIES
from ego4dfs.cache.pins import PIN_S
from ego4dfs.errors import CacheError
from ego4dfs.files import identity, make_private
from ego4dfs.sqlite import (
    disconnect_at_forks,
    fork_lock,
    is_locked,
    remedy,
    retry_while_locked,
)

LOCK_WAIT_S = 10.0
"""How long a command waits for another process that holds the index."""
WRITE_WAIT_S = 3.0
"""How long the writer of a mount does."""
HELD_S = 3.0
"""How long after that nobody in a mount waits: what it fetches is not kept meanwhile."""

_T = TypeVar("_T")
_BLOCK_ON_DISK = (1 << 20) + 4096


@dataclass(frozen=True, slots=True)
class Figures:
    """How full a cache is; `is_held` when these are old, because another process holds the index.

    `policy` is the word for what leaves first.
    """

    max_bytes: int
    used_bytes: int
    blocks: int
    policy: str
    is_held: bool = False


_COUNTS_ARE_RIGHT = f"""
SELECT (SELECT value FROM Settings WHERE key = 'count') IS COUNT(*)
   AND (SELECT value FROM Settings WHERE key = 'size') IS COALESCE(SUM(size), 0)
   AND COALESCE(MAX(size), 0) <= {_BLOCK_ON_DISK} AND COALESCE(MIN(size), 0) >= 0
FROM Cache
"""  # noqa: S608 - numbers of our own
_BOUND_SIZES = f"""
UPDATE Cache SET size = {_BLOCK_ON_DISK}
WHERE typeof(size) != 'integer' OR size NOT BETWEEN 0 AND {_BLOCK_ON_DISK}
"""  # noqa: S608
_RECOUNT_BYTES = """
UPDATE Settings SET value = (SELECT COALESCE(SUM(size), 0) FROM Cache) WHERE key = 'size'
"""
_RECOUNT_BLOCKS = "UPDATE Settings SET value = (SELECT COUNT(*) FROM Cache) WHERE key = 'count'"


class BlockIndex:
    """Which blocks are reserved, how many bytes they take, and which leave first.

    Safe from several threads and processes. Raises CacheError when the index cannot be used, or
    is held by another process for longer than a command waits. What a mount asks for waits for
    less, raises sqlite3.OperationalError, and then fails at once for a while.
    """

    def __init__(self, directory: Path, max_bytes: int | None, eviction: str | None = None) -> None:
        """Open or create the index; None keeps the limit or the policy that is stored in it."""
        self._directory = directory
        self._database = directory / "cache.db"
        self._held_until_s = 0.0
        self.generation = 0
        """Counts how often the index was made anew: what was known of the files is void then."""
        self.is_new = not self._database.exists()
        settings: dict[str, Any] = {} if max_bytes is None else {"size_limit": max_bytes}
        if eviction is not None or self.is_new:
            settings["eviction_policy"] = POLICIES[eviction or "lru"]
        try:
            retry_while_locked(lambda: self._open(settings), wait_s=LOCK_WAIT_S)
            self._figures = retry_while_locked(self._count, wait_s=LOCK_WAIT_S)
        except Exception as error:  # sqlite3 and diskcache raise many kinds here
            raise CacheError(
                f"the cache index in {directory} cannot be opened: {error}",
                hint=remedy(error, clear="ego4dfs cache clear"),
            ) from error
        disconnect_at_forks(self)

    @property
    def max_bytes(self) -> int:
        """The bound on the bytes of all blocks, as stored; another process may change it."""
        return self._patient(lambda: int(self._cache.reset("size_limit")))

    @property
    def eviction(self) -> str:
        """The word for what leaves first, as stored; another process may change it."""
        return self._patient(self._policy)

    @property
    def used_bytes(self) -> int:
        """Bytes that the blocks and the index take on disk."""
        return self._patient(lambda: int(self._cache.volume()))

    def __len__(self) -> int:
        """Count the blocks that are reserved."""
        return self._patient(lambda: len(self._cache))

    def look(self) -> Figures:
        """Return the figures of now, or those of before if another process holds the index.

        Raises sqlite3.Error when they cannot be had.
        """
        try:
            self._figures = self._prompt(self._count, wait_s=0)
        except sqlite3.OperationalError as error:
            if not is_locked(error):
                raise
            return replace(self._figures, is_held=True)
        return self._figures

    def reserve(self, blocks: Sequence[tuple[str, int, str, bool]]) -> int:
        """Make room for blocks given as (key, length, url, pinned); return how many rows left.

        After it the bytes of all rows are below the bound. Where pins leave too little room, some
        of these rows have left again. An index that was removed or replaced is made anew first.
        Raises sqlite3.OperationalError when another process holds the index too long.
        """
        return self._prompt(lambda: self._reserve(blocks))

    def _reserve(self, blocks: Sequence[tuple[str, int, str, bool]]) -> int:
        if self._is_replaced():
            self._renew()
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
        wanted = list(keys)
        return self._patient(lambda: self._pin(wanted, PIN_S if on else None))

    def _pin(self, keys: Sequence[str], expire: float | None) -> int:
        with self._cache.transact():
            return sum(bool(self._cache.touch(key, expire=expire)) for key in keys)

    def touch(self, keys: Iterable[str]) -> None:
        """Record that blocks were read just now; unknown keys are passed over."""
        wanted = list(keys)
        self._prompt(lambda: self._touch(wanted))

    def _touch(self, keys: Sequence[str]) -> None:
        with self._cache.transact():
            for key in keys:
                self._cache.get(key)

    def forget(self, key: str) -> None:
        """Drop one row and its file."""
        self._prompt(lambda: self._cache.delete(key), wait_s=0.5)

    def reserved(self, keys: Collection[str]) -> set[str]:
        """Return those of the blocks of one batch that are reserved; none in a replaced index."""
        return self._prompt(lambda: set() if self._is_replaced() else self._cache.present(keys))

    def keys(self) -> list[str]:
        """Return the keys of all rows, oldest first. Raises CacheError at a foreign one."""
        try:
            return self._patient(lambda: list(self._cache))
        except TypeError as error:
            raise CacheError(str(error), hint="`ego4dfs cache clear` removes it") from error

    def recount(self) -> bool:
        """Set the counts by which the bound is held to what the rows say; True if they were wrong.

        They are kept by triggers, and one changed byte of them would be believed for ever.
        """
        return self._prompt(self._recount)

    def _recount(self) -> bool:
        con = self._cache._con  # noqa: SLF001 - diskcache has no question for it
        if con.execute(_COUNTS_ARE_RIGHT).fetchone()[0]:
            return False
        with self._cache.transact():
            con.execute(_BOUND_SIZES)
            con.execute(_RECOUNT_BYTES)
            con.execute(_RECOUNT_BLOCKS)
        return True

    def clear(self) -> int:
        """Drop all rows and files and return how many there were."""
        return self._patient(lambda: int(self._cache.clear()))

    def close(self) -> None:
        """Close the connection; another use opens a new one."""
        with fork_lock:
            self.disconnect()

    def disconnect(self) -> None:
        """Close the connection, under `fork_lock`; the next use opens another one."""
        self._cache.close()

    def _open(self, settings: Mapping[str, Any]) -> None:
        self._cache = opened(self._directory, settings)
        if self._cache.eviction_policy not in POLICIES.values():  # of a cache before pins
            self._cache.close()
            policy = {"eviction_policy": POLICIES["lru"]}
            self._cache = opened(self._directory, {**settings, **policy})
        self._identity = identity(self._database)

    def _is_replaced(self) -> bool:
        return identity(self._database) != self._identity

    def _renew(self) -> None:
        """Open the index that has the name now, or make one, with the bound of the old one."""
        make_private(self._directory)
        old = {
            "size_limit": self._figures.max_bytes,
            "eviction_policy": POLICIES[self._figures.policy],
        }
        self._cache.close()
        self._open({} if self._database.exists() else old)
        self.generation += 1

    def _policy(self) -> str:
        policy = self._cache.reset("eviction_policy")
        return next((word for word, name in POLICIES.items() if name == policy), str(policy))

    def _count(self) -> Figures:
        limit = int(self._cache.reset("size_limit"))
        try:
            used = int(self._cache.volume())
        except TypeError:  # a changed byte made a text of the count
            self._recount()
            used = int(self._cache.volume())
        return Figures(limit, used, len(self._cache), self._policy())

    def _patient(self, operation: Callable[[], _T]) -> _T:
        """Use the index for a command."""
        try:
            return retry_while_locked(operation, wait_s=LOCK_WAIT_S)
        except sqlite3.OperationalError as error:
            if not is_locked(error):
                raise
            raise CacheError(
                f"the cache index in {self._directory} is held by another process",
                hint=remedy(error, clear="ego4dfs cache clear"),
            ) from error

    def _prompt(self, operation: Callable[[], _T], *, wait_s: float = WRITE_WAIT_S) -> _T:
        """Use the index for a mount: once it was held for too long, nobody waits for a while."""
        if time.monotonic() < self._held_until_s:
            raise sqlite3.OperationalError("database is locked by another process")
        try:
            return retry_while_locked(lambda: self._unless_held(operation), wait_s=wait_s)
        except sqlite3.OperationalError as error:
            if is_locked(error):
                self._held_until_s = time.monotonic() + HELD_S
                raise sqlite3.OperationalError("database is locked by another process") from error
            raise

    def _unless_held(self, operation: Callable[[], _T]) -> _T:
        """Fail at once where another thread has found it held: many would wait for each other."""
        if time.monotonic() < self._held_until_s:
            raise sqlite3.OperationalError("database is locked by another process")
        return operation()
