"""The index of cached blocks, in a database of diskcache: sizes, order of use, eviction.

diskcache provides one count of bytes over all processes, the order of use, and crash safety. Two
things differ from its normal use. The file name of a block follows from its key, so a hit needs no
SQLite. A row is written before its file: the bytes are reserved, other blocks are evicted, and
only then is the file written. So the limit holds at every moment, and a crash leaves a row without
a file (found at the next read) instead of a file that nothing counts.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from ego4dfs.cache.database import Reservation, open_database
from ego4dfs.cache.eviction import PIN_S, POLICIES
from ego4dfs.errors import CacheError
from ego4dfs.files import identity, make_private
from ego4dfs.sqlite import (
    disconnect_at_forks,
    fork_lock,
    is_locked,
    remedy,
    retry_while_locked,
)

COMMAND_LOCK_WAIT_S = 10.0
"""How long a command waits for another process that has locked the index."""
WRITE_LOCK_WAIT_S = 3.0
"""How long the writer of a mount waits for such a process."""
LOCKED_S = 3.0
"""How long a mount fails without a wait after such a wait; new blocks are not cached then."""

_T = TypeVar("_T")
_BLOCK_ON_DISK = (1 << 20) + 4096


@dataclass(frozen=True, slots=True)
class Usage:
    """How full a cache is, and its settings.

    With `is_locked` the values are those of the last query, because another process has locked the
    index now. `policy` is `lru` or `none`.
    """

    max_bytes: int
    used_bytes: int
    blocks: int
    policy: str
    is_locked: bool = False


_ARE_COUNTS_VALID = f"""
SELECT (SELECT value FROM Settings WHERE key = 'count') IS COUNT(*)
   AND (SELECT value FROM Settings WHERE key = 'size') IS COALESCE(SUM(size), 0)
   AND COALESCE(MAX(size), 0) <= {_BLOCK_ON_DISK} AND COALESCE(MIN(size), 0) >= 0
FROM Cache
"""  # noqa: S608 - only our own numbers are inserted
_BOUND_SIZES = f"""
UPDATE Cache SET size = {_BLOCK_ON_DISK}
WHERE typeof(size) != 'integer' OR size NOT BETWEEN 0 AND {_BLOCK_ON_DISK}
"""  # noqa: S608
_RECOUNT_BYTES = """
UPDATE Settings SET value = (SELECT COALESCE(SUM(size), 0) FROM Cache) WHERE key = 'size'
"""
_RECOUNT_BLOCKS = "UPDATE Settings SET value = (SELECT COUNT(*) FROM Cache) WHERE key = 'count'"


class BlockIndex:
    """Rows of blocks: which are reserved, their sizes, and the order of eviction.

    Safe from several threads and processes. Methods for commands wait COMMAND_LOCK_WAIT_S for
    another process that has locked the index, and then raise CacheError. Methods for mounts wait
    WRITE_LOCK_WAIT_S, raise sqlite3.OperationalError, and then fail without a wait for LOCKED_S.
    """

    def __init__(self, directory: Path, max_bytes: int | None, eviction: str | None = None) -> None:
        """Open or create the index; None keeps the stored limit or policy. Raises CacheError."""
        self._directory = directory
        self._database = directory / "cache.db"
        self._locked_until_s = 0.0
        self.generation = 0
        """How often the index was replaced; what was known of its files is invalid then."""
        self.is_new = not self._database.exists()
        settings: dict[str, Any] = {} if max_bytes is None else {"size_limit": max_bytes}
        if eviction is not None or self.is_new:
            settings["eviction_policy"] = POLICIES[eviction or "lru"]
        try:
            retry_while_locked(lambda: self._open(settings), wait_s=COMMAND_LOCK_WAIT_S)
            self._usage = retry_while_locked(self._checked_count, wait_s=COMMAND_LOCK_WAIT_S)
        except Exception as error:  # sqlite3 and diskcache raise many types here
            raise CacheError(
                f"the cache index in {directory} cannot be opened: {error}",
                hint=remedy(error, clear="ego4dfs cache clear", directory=directory),
            ) from error
        disconnect_at_forks(self)

    @property
    def max_bytes(self) -> int:
        """The limit on the bytes of all blocks, as stored; another process may change it."""
        return self._for_command(lambda: int(self._cache.reset("size_limit")))

    @property
    def eviction(self) -> str:
        """The eviction policy, as stored; another process may change it."""
        return self._for_command(self._policy)

    @property
    def used_bytes(self) -> int:
        """Bytes that the blocks and the index take on disk."""
        return self._for_command(lambda: int(self._cache.volume()))

    def __len__(self) -> int:
        """Count the blocks that are reserved."""
        return self._for_command(lambda: len(self._cache))

    def usage(self) -> Usage:
        """Return how full the cache is, without waiting for a process that has locked the index.

        Raises sqlite3.Error if the index cannot be read.
        """
        try:
            self._usage = self._for_mount(self._count, wait_s=0)
        except sqlite3.OperationalError as error:
            if not is_locked(error):
                raise
            return replace(self._usage, is_locked=True)
        return self._usage

    def reserve(self, blocks: Sequence[tuple[str, int, str, bool]]) -> int:
        """Add rows of blocks, given as (key, length, url, pinned); return how many were evicted.

        Afterwards the bytes of all rows are below the limit. If pins leave too little room, some
        of these rows were evicted, too. An index that was removed or replaced is reopened first.
        Raises sqlite3.OperationalError if another process locks the index for too long.
        """
        return self._for_mount(lambda: self._reserve(blocks))

    def _reserve(self, blocks: Sequence[tuple[str, int, str, bool]]) -> int:
        if self._is_replaced():
            self._renew()
        with self._cache.transact():
            known = self._cache.present([key for key, _, _, _ in blocks])
            for key, length, url, is_pinned in blocks:
                if key not in known:
                    expire = PIN_S if is_pinned else None
                    self._cache.set(key, Reservation(length), tag=url, expire=expire)
        limit = self._cache.reset("size_limit")
        if self._cache.volume() <= limit:  # nearly always, and `cull` begins with a transaction
            return 0
        self._cache.reset("eviction_policy")
        return int(self._cache.cull())

    def pin(self, keys: Iterable[str], *, on: bool = True) -> int:
        """Exempt blocks from eviction, or include them again; return how many are in the index."""
        wanted = list(keys)
        return self._for_command(lambda: self._pin(wanted, PIN_S if on else None))

    def _pin(self, keys: Sequence[str], expire: float | None) -> int:
        with self._cache.transact():
            return sum(bool(self._cache.touch(key, expire=expire)) for key in keys)

    def touch(self, keys: Iterable[str]) -> None:
        """Record that blocks were read just now; unknown keys are ignored."""
        wanted = list(keys)
        self._for_mount(lambda: self._touch(wanted))

    def _touch(self, keys: Sequence[str]) -> None:
        with self._cache.transact():
            for key in keys:
                self._cache.get(key)

    def remove(self, key: str) -> None:
        """Remove one row and its file."""
        self._for_mount(lambda: self._cache.delete(key), wait_s=0.5)

    def reserved(self, keys: Collection[str]) -> set[str]:
        """Return those of the keys that have a row; none if the index was replaced."""
        return self._for_mount(lambda: set() if self._is_replaced() else self._cache.present(keys))

    def keys_of(self, object_id: str, *, limit: int) -> list[str]:
        """Return some keys of one object version; none if the index was replaced.

        Runs one query, however large the object is, and does not wait for other processes.
        """
        return self._for_mount(lambda: self._keys_of(object_id, limit), wait_s=0)

    def _keys_of(self, object_id: str, limit: int) -> list[str]:
        return [] if self._is_replaced() else self._cache.keys_with_prefix(f"{object_id}-", limit)

    def keys(self) -> list[str]:
        """Return the keys of all rows, oldest first. Raises CacheError at an invalid key."""
        return self._for_command(lambda: list(self._cache))

    def recount(self) -> bool:
        """Set the total count and size to those of the rows; return True if they were wrong.

        Triggers only add to the totals and subtract from them, so a wrong total would stay wrong,
        and the limit depends on it.
        """
        return self._for_mount(self._recount)

    def _recount(self) -> bool:
        con = self._cache._con  # noqa: SLF001 - diskcache has no method for it
        if con.execute(_ARE_COUNTS_VALID).fetchone()[0]:
            return False
        with self._cache.transact():
            con.execute(_BOUND_SIZES)
            con.execute(_RECOUNT_BYTES)
            con.execute(_RECOUNT_BLOCKS)
        return True

    def clear(self) -> int:
        """Remove all rows and files, and return how many there were."""
        return self._for_command(lambda: int(self._cache.clear()))

    def close(self) -> None:
        """Close the connection; the next use opens another one."""
        with fork_lock:
            self.disconnect()

    def disconnect(self) -> None:
        """Close the connection; called under `fork_lock`. The next use opens another one."""
        self._cache.close()

    def _open(self, settings: Mapping[str, Any]) -> None:
        self._cache = open_database(self._directory, settings)
        if self._cache.eviction_policy not in POLICIES.values():  # of an earlier version
            self._cache.close()
            policy = {"eviction_policy": POLICIES["lru"]}
            self._cache = open_database(self._directory, {**settings, **policy})
        self._identity = identity(self._database)

    def _is_replaced(self) -> bool:
        return identity(self._database) != self._identity

    def _renew(self) -> None:
        """Open the index that is at the path now, or create one with the old settings."""
        make_private(self._directory)
        old = {
            "size_limit": self._usage.max_bytes,
            "eviction_policy": POLICIES[self._usage.policy],
        }
        self._cache.close()
        self._open({} if self._database.exists() else old)
        self.generation += 1

    def _policy(self) -> str:
        policy = self._cache.reset("eviction_policy")
        return next((word for word, name in POLICIES.items() if name == policy), str(policy))

    def _count(self) -> Usage:
        limit = int(self._cache.reset("size_limit"))
        try:
            used = int(self._cache.volume())
        except TypeError:  # a damaged count is read as text
            self._recount()
            used = int(self._cache.volume())
        return Usage(limit, used, len(self._cache), self._policy())

    def _checked_count(self) -> Usage:
        """Return `_count` of an index that was just opened; raise ValueError if it is damaged."""
        usage = self._count()
        if usage.max_bytes <= 0:
            raise ValueError("its limit is not positive")
        if usage.used_bytes > usage.max_bytes and self._recount():
            usage = self._count()
        return usage

    def _for_command(self, operation: Callable[[], _T]) -> _T:
        """Run an operation of a command; it may wait for another process."""
        try:
            return retry_while_locked(operation, wait_s=COMMAND_LOCK_WAIT_S)
        except sqlite3.OperationalError as error:
            if not is_locked(error):
                raise
            raise CacheError(
                f"the cache index in {self._directory} is held by another process",
                hint=remedy(error, clear="ego4dfs cache clear"),
            ) from error
        except (TypeError, ValueError, OverflowError) as error:  # of a value of another type
            raise CacheError(
                f"the cache index in {self._directory} is damaged: {error}",
                hint="`ego4dfs cache clear` makes a new one",
            ) from error

    def _for_mount(self, operation: Callable[[], _T], *, wait_s: float = WRITE_LOCK_WAIT_S) -> _T:
        """Run an operation of a mount; after a wait that failed, fail at once for LOCKED_S."""
        if time.monotonic() < self._locked_until_s:
            raise sqlite3.OperationalError("database is locked by another process")
        try:
            return retry_while_locked(lambda: self._unless_locked(operation), wait_s=wait_s)
        except sqlite3.OperationalError as error:
            if is_locked(error):
                self._locked_until_s = time.monotonic() + LOCKED_S
                raise sqlite3.OperationalError("database is locked by another process") from error
            raise

    def _unless_locked(self, operation: Callable[[], _T]) -> _T:
        """Fail if another thread has found the index locked: threads would wait one by one."""
        if time.monotonic() < self._locked_until_s:
            raise sqlite3.OperationalError("database is locked by another process")
        return operation()
