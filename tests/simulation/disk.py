"""A disk that fails: calls of the block cache and of SQLite with faults.

Files and databases are real, in memory where /dev/shm is; waits for locks take virtual time.
"""

from __future__ import annotations

import errno
import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from simulation.faults import Faults
from simulation.scheduler import EPOCH_S, Process, Scheduler

_WRITES = ("BEGIN", "INSERT", "UPDATE", "DELETE", "COMMIT")
_SLOW_S = 2.0


class Disk:
    """The disk of all processes of one run; `faults` say when it fails."""

    def __init__(self, scheduler: Scheduler, faults: Faults) -> None:
        self._scheduler = scheduler
        self._faults = faults
        self._connections: list[tuple[Process | None, sqlite3.Connection]] = []
        self._lock_files: dict[int, Process | None] = {}

    def os_module(self) -> Any:
        """Return a replacement of `os` for the module of block files."""
        return _FailingOs(self)

    def lock_os_module(self) -> Any:
        """Return a replacement of `os` for the module that locks ranges of files."""
        return _LockFiles(self)

    def open_lock_file(self, path: Any, flags: int, mode: int) -> int:
        fd = os.open(path, flags, mode)
        task = self._scheduler.current
        self._lock_files[fd] = task.process if task else None
        return fd

    def close_lock_file(self, fd: int) -> None:
        if self._lock_files.pop(fd, self) is not self:  # else its process was killed
            os.close(fd)

    def sqlite_module(self) -> Any:
        """Return a replacement of `sqlite3` for the module that opens databases."""
        return _FailingSqlite(self)

    def connect(self, database: Any, **options: Any) -> sqlite3.Connection:
        """Open a database whose lock waits take virtual time."""
        wait_s = options["timeout"]
        options |= {"timeout": 0.0, "factory": _Connection}
        connection = sqlite3.connect(database, **options)
        connection.disk, connection.wait_s = self, wait_s  # type: ignore[attr-defined]
        task = self._scheduler.current
        self._connections.append((task.process if task else None, connection))
        return connection

    def close(self, process: Process) -> None:
        """Close the connections of a process that is killed."""
        for owner, connection in self._connections:
            if owner is process:
                _close(connection)
        self._connections = [pair for pair in self._connections if pair[0] is not process]

    def unlock(self, process: Process) -> None:
        """Close the lock files of a process that was killed."""
        for fd in [fd for fd, owner in self._lock_files.items() if owner is process]:
            self.close_lock_file(fd)

    def close_all(self) -> None:
        """Close all connections."""
        for _, connection in self._connections:
            _close(connection)
        for fd in list(self._lock_files):
            self.close_lock_file(fd)

    def before_read(self) -> None:
        self._pause()
        if self._is("unreadable"):
            raise OSError(errno.EIO, "Input/output error")

    def before_write(self) -> None:
        self._pause()
        if self._is("no space"):
            raise OSError(errno.ENOSPC, "No space left on device")

    def is_cut(self) -> bool:
        return self._is("cut writes")

    def before_statement(self, sql: str, wait_s: float) -> None:
        """Fail a statement of SQLite, if its disk is full or cannot be read."""
        del wait_s
        if sql.lstrip().upper().startswith(_WRITES) and self._is("index full"):
            raise sqlite3.OperationalError("database or disk is full")
        if not sql.startswith("ROLLBACK") and self._is("index unreadable"):
            raise sqlite3.OperationalError("disk I/O error")

    def wait(self, seconds: float) -> None:
        self._scheduler.wait(seconds)

    @property
    def time_s(self) -> float:
        return EPOCH_S + self._scheduler.now_s

    def _pause(self) -> None:
        if self._is("slow disk"):
            self._scheduler.wait(_SLOW_S)
        else:
            self._scheduler.pause()

    def _is(self, kind: str) -> bool:
        return self._faults.of(kind, "", self._scheduler.now_s) is not None


def _close(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        connection.close()


class _Connection(sqlite3.Connection):
    disk: Disk
    wait_s: float

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        return self._run(super().execute, sql, *values)

    def executemany(self, sql: str, *values: Any) -> sqlite3.Cursor:
        return self._run(super().executemany, sql, *values)

    def _run(self, call: Any, sql: str, *values: Any) -> Any:
        disk = getattr(self, "disk", None)
        if disk is not None:
            disk.before_statement(sql, self.wait_s)
        try:
            return call(sql, *values)
        except sqlite3.OperationalError as error:
            if disk is not None and "locked" in str(error):
                disk.wait(self.wait_s)
            raise


class _FailingSqlite:
    def __init__(self, disk: Disk) -> None:
        self.connect = disk.connect

    def __getattr__(self, name: str) -> Any:
        return getattr(sqlite3, name)


class _LockFiles:
    def __init__(self, disk: Disk) -> None:
        self.open = disk.open_lock_file
        self.close = disk.close_lock_file

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


class _FailingOs:
    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            self._disk.before_write()
        else:
            self._disk.before_read()
        return os.open(path, flags, mode)

    def writev(self, fd: int, buffers: list[Any]) -> int:
        self._disk.before_write()
        if self._disk.is_cut():
            buffers = [memoryview(buffers[0])[: len(buffers[0]) // 2]]
        written = os.writev(fd, buffers)
        os.utime(fd, (self._disk.time_s,) * 2)
        return written

    def preadv(self, fd: int, buffers: list[Any], offset: int) -> int:
        self._disk.before_read()
        return os.preadv(fd, buffers, offset)


def blocks(directory: Path) -> list[Path]:
    """Return the files of all blocks, in order of their names."""
    return sorted(directory.glob("v1/blocks/??/*"))


def damage(path: Path, dice: random.Random, how: str) -> None:
    """Change a block file as a bad disk does: flip a bit, cut it short, or remove it."""
    if how == "remove a block":
        path.unlink(missing_ok=True)
        return
    content = bytearray(path.read_bytes())
    if not content:
        return
    if how == "cut a block":
        del content[dice.randrange(len(content)) :]
    else:
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    path.write_bytes(content)


def tamper(directory: Path, dice: random.Random) -> None:
    """Change the sizes in a table of facts, without their checksums."""
    for path in sorted(directory.glob("v1/sources/*/facts.sqlite")):
        database = sqlite3.connect(path, timeout=0.0, isolation_level=None)
        with suppress(sqlite3.Error):
            urls = [url for (url,) in database.execute("SELECT url FROM facts ORDER BY url")]
            for url in urls:
                if dice.random() < 0.5:
                    database.execute("UPDATE facts SET size = size - 1 WHERE url = ?", (url,))
        database.close()


def forget(directory: Path) -> None:
    """Remove all facts, as `ego4dfs cache clear --all` does; no process may run."""
    for path in directory.glob("v1/sources/*/facts.sqlite*"):
        path.unlink()


def locked(directory: Path, pattern: str) -> Iterator[None]:
    """Hold the write locks of databases until the generator is resumed."""
    held = []
    for path in sorted(directory.glob(pattern)):
        database = sqlite3.connect(path, timeout=0.0, isolation_level=None)
        try:
            database.execute("BEGIN EXCLUSIVE")
            held.append(database)
        except sqlite3.Error:
            database.close()
    yield
    for database in held:
        database.close()
