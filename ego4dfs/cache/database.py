"""The database of the block index: diskcache with file names from keys and short lock waits."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import diskcache

from ego4dfs.cache.blockfile import allocated_bytes
from ego4dfs.sqlite import LOCK_STEP_S, connect, is_locked, transaction

_BLOCK_NAME = re.compile(r"[^/.][^/]/[^/.][^/]*")  # as `relative_name` makes it
_MODE_BINARY = 2  # diskcache's number for "the value is in a file"


class Reservation:
    """The value that diskcache stores for a block: only its length in bytes."""

    __slots__ = ("length",)

    def __init__(self, length: int) -> None:
        self.length = length


class _BlockDisk(diskcache.Disk):  # type: ignore[misc]
    """Names files after keys, writes none, and pickles nothing (CVE-2025-69872)."""

    def put(self, key: str) -> tuple[str, bool]:
        return key, True

    def get(self, key: object, raw: object) -> str:
        if not raw or type(key) is not str:
            raise TypeError("the cache index holds a key that ego4dfs did not write")
        return key

    def store(self, value: Reservation, read: object, key: str) -> tuple[int, int, str, None]:
        del read
        return allocated_bytes(value.length), _MODE_BINARY, relative_name(key), None

    def fetch(self, mode: object, filename: object, value: object, read: object) -> bool:
        del mode, filename, value, read
        return True  # the row exists; `blockfile` reads the bytes

    def remove(self, file_path: object) -> None:
        # Only a block is removed, whatever a row of the index names.
        if isinstance(file_path, str) and _BLOCK_NAME.fullmatch(file_path):
            with suppress(OSError):
                Path(self._directory, file_path).unlink()


class BlockDatabase(diskcache.Cache):  # type: ignore[misc]
    """diskcache with one connection for all threads, which can be closed before a fork.

    diskcache itself has a connection for each thread, and no thread can close another's. Every
    call is made under `fork_lock`, so no two threads use the connection at the same time.
    """

    _shared: sqlite3.Connection | None = None
    _txn_id: int | None

    @property
    def _con(self) -> sqlite3.Connection:
        if self._shared is None:
            name = Path(self._directory, "cache.db")
            self._shared = connect(name, lock_wait_s=LOCK_STEP_S)
            self._restore_pragmas(self._shared)
        return self._shared

    @property
    def _sql_retry(self) -> Any:
        """Wait no longer than the connection does; diskcache would retry for a minute."""
        return self._con.execute

    @contextmanager
    def _transact(
        self,
        retry: bool = False,  # noqa: FBT001, FBT002 - as diskcache calls it
        filename: str | None = None,
    ) -> Iterator[tuple[Any, Callable[[str | None], None]]]:
        """Raise the cause of a failure; diskcache raises Timeout or the error of its ROLLBACK."""
        del retry, filename  # `_BlockDisk.store` creates no file, so a failure leaves none
        removed: list[str | None] = []
        if self._txn_id == threading.get_ident():
            yield self._sql, removed.append
        else:
            with transaction(self._con):
                self._txn_id = threading.get_ident()
                try:
                    yield self._sql, removed.append
                finally:
                    self._txn_id = None
        for name in filter(None, removed):
            self._disk.remove(name)

    def present(self, keys: Collection[str]) -> set[str]:
        """Return the keys that have a row, by one query; `keys` are a few hundred at most."""
        marks = ", ".join("?" * len(keys))
        query = f"SELECT key FROM Cache WHERE raw = 1 AND key IN ({marks})"  # noqa: S608
        return {key for (key,) in self._con.execute(query, tuple(keys))}

    def keys_with_prefix(self, prefix: str, limit: int) -> list[str]:
        """Return at most `limit` keys that begin with a prefix."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        query = "SELECT key FROM Cache WHERE key >= ? AND key < ? AND raw = 1 LIMIT ?"
        return [key for (key,) in self._con.execute(query, (prefix, end, limit))]

    def close(self) -> None:
        """Close the connection; the next use opens another one."""
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.close()

    def _restore_pragmas(self, connection: sqlite3.Connection) -> None:
        try:
            settings = connection.execute("SELECT key, value FROM Settings").fetchall()
        except sqlite3.OperationalError as error:
            if is_locked(error):
                self.close()
                raise
            return  # a new database, without tables
        for key, value in settings:
            if key.startswith("sqlite_"):
                self.reset(key, value, update=False)

    def reset(self, key: str, value: Any = diskcache.core.ENOVAL, update: bool = True) -> Any:  # noqa: FBT001, FBT002
        """Set a pragma without retries; diskcache would retry for a minute."""
        if not key.startswith("sqlite_") or value is diskcache.core.ENOVAL:
            return super().reset(key, value, update)
        if update:
            self._con.execute("UPDATE Settings SET value = ? WHERE key = ?", (value, key))
        pragma = key.removeprefix("sqlite_")
        found = self._con.execute(f"PRAGMA {pragma}").fetchone()
        if found is None or found[0] != value:
            self._con.execute(f"PRAGMA {pragma} = {value}").fetchall()
        setattr(self, key, value)
        return value


def open_database(directory: Path, settings: Mapping[str, Any]) -> BlockDatabase:
    """Open or create the database in a directory. Raises sqlite3.Error."""
    return BlockDatabase(
        str(directory),
        timeout=LOCK_STEP_S,
        disk=_BlockDisk,
        cull_limit=0,  # `BlockIndex.reserve` evicts, once for each batch
        sqlite_mmap_size=0,  # an I/O error in a mapping kills the process with SIGBUS
        **settings,
    )


def relative_name(key: str) -> str:
    """Return the path of a block below the cache: 256 directories, by the first byte of the key."""
    return f"{key[:2]}/{key[2:]}"
