"""Opening of the journal's SQLite file: writers under a flock, WAL where the filesystem has it.

Others may write to its directory, so no symbolic link, and no file with another hard link, is
opened for writing there. SQLite opens files by path, so they are checked before it does.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import mmap
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from ego4dfs.errors import FEW_INODES, OutputError, lacks_inodes, os_error_text
from ego4dfs.files import Folder
from ego4dfs.files.best_effort import REFUSALS
from ego4dfs.sqlite import connect, is_damaged, is_full, read_only_uri

log = logging.getLogger(__name__)

LOCK = "lock"

LOCK_WAIT_S = 30
"""How long a statement waits for another program that holds the database."""

_PAUSE_S = 0.05
_NO_ROOM_BYTES = 64 << 10
_ROOM = "make room, or name another directory with -o"
_NEW = "remove it: ego4dfs creates a new one"
_HINTS = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EROFS: "name a directory that can be written, with -o",
    errno.ELOOP: _NEW,
    errno.EEXIST: _NEW,
    errno.EISDIR: _NEW,
    errno.ENAMETOOLONG: "name a directory with a shorter path, with -o",
}
_NO_LOCKS = REFUSALS | {errno.ENOLCK}
_SIDES = ("-journal", "-wal", "-shm")


class InUse(OutputError):  # noqa: N818 - a state of the directory
    """Another process holds the lock of a directory."""


@contextmanager
def exclusive(state: Path, wait_s: float) -> Iterator[None]:
    """Hold the lock of a directory of records during the block, without opening its journal.

    Raises InUse if another process holds it for `wait_s`, and OutputError without locks.
    """
    try:
        with Folder.at(state) as folder:
            held, has_locks = _hold(folder, wait_s)
    except OSError as error:
        raise _refused(state, error) from error
    try:
        if not has_locks:
            hint = "give each shard a directory of its own, or mount it with locks (Lustre: flock)"
            raise OutputError(f"{state.parent}: shards need a filesystem with locks", hint=hint)
        yield
    finally:
        os.close(held)


def open_to_write(path: Path, wait_s: float = 0.0) -> tuple[int, sqlite3.Connection]:
    """Open or create the journal; return the descriptor of its lock, and the connection.

    Raises InUse if another process holds it for `wait_s`, and OutputError.
    """
    try:
        with Folder.at(path.parent.parent) as root, root.below(path.parent.name) as folder:
            held, has_locks = _hold(folder, wait_s)
            try:
                return held, _open_sound(folder, path, has_locks=has_locks)
            except BaseException:
                os.close(held)
                raise
    except sqlite3.Error as error:
        raise unusable(path, error) from error
    except OSError as error:
        raise _refused(path.parent, error) from error


def open_to_look(path: Path) -> sqlite3.Connection:
    """Open the journal for reading, or an empty one if it does not exist. Raises OutputError."""
    # os.path raises nothing where the directory may not be entered.
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113
        # SQLite would wait for a pipe.
        raise OutputError(f"{path}: not a regular file", hint=_NEW)
    location = read_only_uri(path)
    if not location and _is_there(path):
        error = PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        raise _refused(path.parent, error)
    try:
        return connect(location or ":memory:", lock_wait_s=LOCK_WAIT_S)
    except sqlite3.Error as error:
        raise unusable(path, error) from error


def has_no_room(path: Path, error: sqlite3.Error) -> bool:
    """Return whether an error of the database at `path` means that its disk is full.

    SQLite reports a full disk as an I/O error too, when it cannot extend its log.
    """
    if is_full(error) or "disk I/O error" not in str(error):
        return is_full(error)
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _NO_ROOM_BYTES


def _lacks_inodes(directory: Path) -> bool:
    with suppress(OSError):
        return lacks_inodes(directory)
    return False


def unusable(path: Path, error: sqlite3.Error) -> OutputError:
    """Return the error that says why the journal cannot be used."""
    reason = str(error)
    if has_no_room(path, error):  # the copies will not fit either
        return OutputError(f"{path}: no space left on device", hint=_ROOM)
    hint = "if it is damaged, remove it: complete copies are found without it"
    if "unable to open" in reason and _lacks_inodes(path.parent):
        return OutputError(f"{path}: {FEW_INODES}", hint=_ROOM)
    if "readonly" in reason or "unable to open" in reason:
        hint = _shared(path.parent)
    return OutputError(f"the journal {path} cannot be used: {error}", hint=hint)


def _refused(state: Path, error: OSError) -> OutputError:
    """Return the error that names a file that cannot be opened, and what its owner can do."""
    hint = _HINTS.get(error.errno or 0, "")
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = _shared(state)
    where = error.filename or state
    return OutputError(f"{where}: {os_error_text(error)}", hint=hint)


def _shared(state: Path) -> str:
    return f"if others use this directory too, its owner can share it: chmod -R g+rwX {state}"


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _open_sound(folder: Folder, path: Path, *, has_locks: bool) -> sqlite3.Connection:
    """Open the journal; rename a damaged one, and create a new one."""
    try:
        return _open(folder, path, has_locks=has_locks)
    except sqlite3.DatabaseError as error:
        if not is_damaged(error):
            raise
        aside = folder.set_aside(path.name, ".damaged")
        for side in _SIDES:
            folder.remove(path.name + side)
        log.warning(
            "the journal %s is damaged (%s); it was renamed to %s,"
            " and the copies are compared again",
            path,
            error,
            aside,
        )
        return _open(folder, path, has_locks=has_locks)


def check(database: sqlite3.Connection) -> None:
    """Read all of a database, and raise sqlite3.DatabaseError if it is damaged."""
    (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(f"malformed: {found.rpartition(chr(10))[2]}")


def _open(folder: Folder, path: Path, *, has_locks: bool) -> sqlite3.Connection:
    os.close(folder.open_or_create(path.name))
    for side in _SIDES:
        if folder.status(path.name + side) is not None:
            os.close(folder.open(path.name + side))
    path.stat()  # SQLite does not say that a path is too long
    shares_memory, syncs = _abilities(folder)
    uri = f"{path.absolute().as_uri()}{'' if has_locks else '?nolock=1'}"
    database = connect(uri, lock_wait_s=LOCK_WAIT_S)
    try:
        database.execute(f"PRAGMA synchronous = {'NORMAL' if syncs else 'OFF'}")
        # Without shared memory, SQLite has no write-ahead log for several connections.
        if has_locks and shares_memory:
            database.execute("PRAGMA journal_mode = WAL")
        else:
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("PRAGMA journal_mode = TRUNCATE")
            database.execute("PRAGMA locking_mode = NORMAL")
        database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        check(database)
    except sqlite3.Error:
        database.close()
        raise
    return database


def _abilities(folder: Folder) -> tuple[bool, bool]:
    """Return whether files there can be mapped for sharing, and whether they can be synced."""
    name = f"probe.{os.getpid()}"
    folder.remove(name)
    descriptor = folder.create(name)
    try:
        # Bytes, not a hole: on a full disk a write to a mapped hole kills the process with SIGBUS.
        os.pwrite(descriptor, bytes(mmap.PAGESIZE), 0)
        return _can(lambda: _map(descriptor)), _can(lambda: os.fsync(descriptor))
    finally:
        os.close(descriptor)
        folder.remove(name)


def _map(descriptor: int) -> None:
    with closing(mmap.mmap(descriptor, mmap.PAGESIZE)) as shared:
        shared[0] = 1


def _can(call: Callable[[], None]) -> bool:
    try:
        call()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
            raise
        return False
    return True


def _hold(folder: Folder, wait_s: float) -> tuple[int, bool]:
    """Lock the directory for as long as this process lives; return the descriptor of the lock.

    The second value is whether the filesystem has locks.
    """
    held = folder.open_or_create(LOCK)
    try:
        _lock(held, wait_s)
    except BlockingIOError:
        pid = os.pread(held, 20, 0).decode(errors="replace").strip()
        os.close(held)
        raise InUse(
            f"{folder.path.parent}: another prefetch is running there (pid {pid})",
            hint="wait until it is done, or end it: it can be resumed",
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            os.close(held)
            raise
        # Prefetch without a lock is better than no prefetch.
        log.warning(
            "%s: no locks on this filesystem (%s); run one prefetch at a time", folder.path, error
        )
        return held, False
    os.ftruncate(held, 0)
    os.pwrite(held, f"{os.getpid()}\n".encode(), 0)
    return held, True


def _lock(descriptor: int, wait_s: float) -> None:
    until_s = time.monotonic() + wait_s
    while time.monotonic() < until_s:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_PAUSE_S)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def boot_id() -> str:
    """Return the id of the boot of this machine; without one, no other process has the same."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"unknown-{time.time_ns()}"  # only synced bytes count
