"""SQLite databases shared by threads, processes and forks: connections, transactions, errors.

SQLite remembers in the memory of a process which files it has open and which locks it holds, and a
forked child inherits that memory. With a connection that was open at the fork, the child assumes
locks that only its parent holds: its own connections take none, and the last close in the parent
deletes the log that the child writes. A transaction that was open makes the child wait for a lock
that is never released. So a shared database is used only under `fork_lock`, a fork waits for that
lock, and every registered connection is closed before the fork and opened again at the next use:
a DataLoader may fork while the parent fills its cache.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar
from weakref import WeakValueDictionary

from ego4dfs.errors import FEW_INODES, lacks_inodes

log = logging.getLogger(__name__)

fork_lock = threading.RLock()
"""Held while a shared database is used, and while the process forks."""

LOCK_STEP_S = 0.1
"""How long one attempt waits for another process; `fork_lock` is held meanwhile."""

_PAUSE_S = 0.02
_BUSY = (5, 6)  # SQLITE_BUSY and SQLITE_LOCKED, which Python 3.10 does not name
_T = TypeVar("_T")


class _Connection(sqlite3.Connection):
    """A connection whose errors are all sqlite3.Error.

    Python raises UnicodeDecodeError in place of an error whose message is not text, because it
    quotes a damaged schema.
    """

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        return _readable(super().execute, arguments)

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        return _readable(super().executemany, arguments)

    def executescript(self, *arguments: Any) -> sqlite3.Cursor:
        return _readable(super().executescript, arguments)


def _readable(run: Callable[..., sqlite3.Cursor], arguments: tuple[Any, ...]) -> sqlite3.Cursor:
    try:
        return run(*arguments)
    except UnicodeDecodeError as error:
        raise sqlite3.DatabaseError("malformed database: its schema is not text") from error


def connect(database: Path | str, *, lock_wait_s: float) -> sqlite3.Connection:
    """Open a path, a `file:` URI or `:memory:`, in autocommit mode, for use from any thread.

    Each statement waits `lock_wait_s` for another process that holds the database.
    Raises sqlite3.Error.
    """
    return sqlite3.connect(
        database,
        timeout=lock_wait_s,
        isolation_level=None,
        check_same_thread=False,
        uri=str(database).startswith("file:"),
        factory=_Connection,
    )


def read_only_uri(path: Path) -> str:
    """Return the URI to open a database read-only; "" if there is none that may be read.

    A database with a write-ahead log that no process has open is opened as immutable: in a
    directory that cannot be written, SQLite cannot create the files that it needs beside it.
    """
    if not os.access(path, os.R_OK):
        return ""
    is_idle = not path.with_name(f"{path.name}-wal").exists() and _is_wal(path)
    return f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if is_idle else ''}"


def _is_wal(path: Path) -> bool:
    """Return whether the header of a database says that it uses a write-ahead log."""
    try:
        with path.open("rb") as file:
            return file.read(20)[18:] == b"\2\2"
    except OSError:
        return False


def copy_database(source: sqlite3.Connection, target: sqlite3.Connection, *, wait_s: float) -> None:
    """Replace all of `target` by `source`, page by page: 0.15 s for 35 MB on a disk.

    Another process that holds one of them is waited for during `wait_s`. Raises sqlite3.Error.
    """
    until_s = time.monotonic() + wait_s

    def progress(status: int, _remaining: int, _total: int) -> None:
        if status in _BUSY and time.monotonic() >= until_s:  # else SQLite waits for ever
            raise sqlite3.OperationalError("database is locked")

    source.backup(target, progress=progress, sleep=_PAUSE_S)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run the block in one transaction: commit at its end, roll back if it or the commit fails.

    Raises the error that made it fail. On a full disk SQLite ends the transaction itself; an
    explicit COMMIT or ROLLBACK would then raise "no transaction is active" instead of the cause.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def retry_while_locked(operation: Callable[[], _T], *, wait_s: float) -> _T:
    """Run `operation` under `fork_lock`; retry for `wait_s` while another process has the lock.

    Between two attempts `fork_lock` is free, so other threads and forks wait for one step at most.
    An operation may run in part and then be repeated. Raises what it raises.
    """
    until_s = time.monotonic() + wait_s
    while True:
        try:
            with fork_lock:
                return operation()
        except sqlite3.OperationalError as error:
            if not is_locked(error) or time.monotonic() >= until_s:
                raise
        time.sleep(_PAUSE_S)


def is_locked(error: BaseException) -> bool:
    """Return whether an error says that another process holds the database."""
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def is_full(error: BaseException) -> bool:
    """Return whether an error says that the disk is full (SQLITE_FULL)."""
    return isinstance(error, sqlite3.OperationalError) and "disk is full" in str(error)


def is_damaged(error: BaseException) -> bool:
    """Return whether an error says that the file is damaged, or is not a database."""
    reason = str(error)
    if type(error) is sqlite3.DatabaseError and "vtable constructor failed" in reason:
        return True  # the tables of FTS5; other causes have an OperationalError
    return isinstance(error, sqlite3.Error) and (
        "malformed" in reason or "not a database" in reason
    )


def remedy(error: Exception, *, clear: str, directory: Path | None = None) -> str:
    """Return what a user can do about an error; the command `clear` makes a new database.

    With `directory`, that of the database, a disk without inodes is named: SQLite does not tell.
    """
    if directory is not None and "unable to open" in str(error):
        with suppress(OSError):
            if lacks_inodes(directory):
                return f"{FEW_INODES}; remove files, or name another directory with --cache-dir"
    if is_full(error) or "no space" in str(error).lower():
        return "make room, or name another directory with --cache-dir"
    if is_locked(error):
        return "another process holds it; try again, or name another directory with --cache-dir"
    return f"if it is damaged, `{clear}` makes a new one"


class Disconnectable(Protocol):
    """An owner of a connection."""

    def disconnect(self) -> None:
        """Close the connection; called under `fork_lock`. The next use opens another one."""


_owners: WeakValueDictionary[int, Disconnectable] = WeakValueDictionary()


def disconnect_at_forks(owner: Disconnectable) -> None:
    """Call `owner.disconnect` before each fork of this process."""
    with fork_lock:
        _owners[id(owner)] = owner


def _before_fork() -> None:
    fork_lock.acquire()
    for owner in list(_owners.values()):
        _disconnect(owner)


def _disconnect(owner: Disconnectable) -> None:
    try:
        owner.disconnect()
    except Exception:  # the other connections must still be closed
        log.exception("a connection was not closed before a fork")


os.register_at_fork(
    before=_before_fork, after_in_parent=fork_lock.release, after_in_child=fork_lock.release
)
