"""The facts index on disk: rows in SQLite with a checksum each, for several processes at a time."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import xxhash

from ego4dfs.errors import CacheError
from ego4dfs.files import identity, make_private
from ego4dfs.runtime.throttled_log import ThrottledLog
from ego4dfs.sqlite import (
    LOCK_STEP_S,
    connect,
    disconnect_at_forks,
    fork_lock,
    is_locked,
    remedy,
    retry_while_locked,
    transaction,
)
from ego4dfs.store import ObjectFacts

log = logging.getLogger(__name__)

LOCK_WAIT_S = 0.3
"""How long an opening waits for another process that holds the file; other uses, one step."""
HELD_S = 3.0
"""How long after that no use waits at all: facts are not known then, and writes are put off."""

_ROWS_AT_ONCE = 500  # SQLite takes 999 values in one query at least
_FACTS = "url, size, etag, version_id, mtime_ns"
_REFUSALS = "url, missing, message, at"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (
    url TEXT PRIMARY KEY, size INTEGER NOT NULL, etag TEXT NOT NULL,
    version_id TEXT NOT NULL, mtime_ns INTEGER NOT NULL, proof BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refusals (
    url TEXT PRIMARY KEY, missing INTEGER NOT NULL, message TEXT NOT NULL, at REAL NOT NULL,
    proof BLOB
) WITHOUT ROWID;
"""
# Rows of before there were checksums are believed once: the GETs of an object tell its true size.
_UPGRADE = (
    "ALTER TABLE facts ADD COLUMN proof BLOB",
    f"UPDATE facts SET proof = proof({_FACTS})",  # noqa: S608 - names of our own
    "ALTER TABLE refusals ADD COLUMN proof BLOB",
    "DELETE FROM refusals",
)

Row = tuple[Any, ...]
_T = TypeVar("_T")


class FactsTable:
    """Facts and refusals by URL.

    One that cannot be read or written, or that another process holds, costs HEADs, never an
    error. A row whose checksum fails is dropped. Every use is under `fork_lock`.
    """

    def __init__(self, path: Path) -> None:
        """Open or create it. Raises CacheError."""
        self._path = path
        self._closed = False
        self._unusable = ThrottledLog(log)
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._held_until_s = {"read": 0.0, "written": 0.0}
        disconnect_at_forks(self)
        try:
            retry_while_locked(self._db, wait_s=LOCK_WAIT_S)
        except sqlite3.Error as error:
            if is_locked(error):
                self._note(error, "opened")
                return
            raise CacheError(
                f"facts in {path} cannot be opened: {error}",
                hint=remedy(error, clear="ego4dfs cache clear --all"),
            ) from error

    @property
    def is_held(self) -> bool:
        """Whether another process held it just now, so that no write would wait for it."""
        return self._is_held("written")

    def _is_held(self, what: str) -> bool:
        return time.monotonic() < self._held_until_s[what]

    def facts(self, urls: Sequence[str]) -> dict[str, ObjectFacts]:
        """Return what is known of these URLs."""
        found = {}
        rest = iter(urls)
        while some := tuple(islice(rest, _ROWS_AT_ONCE)):
            marks = ", ".join("?" * len(some))
            query = f"SELECT {_FACTS}, proof FROM facts WHERE url IN ({marks})"  # noqa: S608
            for row in self._proved("facts", self._rows(query, some)):
                found[row[0]] = ObjectFacts(*row[1:])
        return found

    def apply(self, changes: Mapping[str, ObjectFacts | None]) -> bool:
        """Write facts, and drop those given as None; False when another process holds it."""
        dropped = [(url,) for url, facts in changes.items() if facts is None]
        rows = [
            (url, facts.size, facts.etag, facts.version_id, facts.mtime_ns)
            for url, facts in changes.items()
            if facts is not None
        ]
        return self._write(
            ("DELETE FROM facts WHERE url = ?", dropped),
            ("DELETE FROM refusals WHERE url = ?", dropped),
            ("INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?, ?, ?)", _with_proofs(rows)),
        )

    def refusal(self, url: str) -> tuple[bool, str, float] | None:
        """Return whether the object was missing, what was said, and when."""
        query = f"SELECT {_REFUSALS}, proof FROM refusals WHERE url = ?"  # noqa: S608
        rows = self._proved("refusals", self._rows(query, (url,)))
        return (bool(rows[0][1]), str(rows[0][2]), float(rows[0][3])) if rows else None

    def refused(self, since_s: float, until_s: float) -> set[str]:
        """Return the URLs that were refused in this time."""
        query = "SELECT url FROM refusals WHERE at > ? AND at <= ?"
        return {row[0] for row in self._rows(query, (since_s, until_s))}

    def refuse(self, url: str, message: str, at_s: float, *, is_missing: bool) -> None:
        """Write a refusal."""
        rows = _with_proofs([(url, int(is_missing), message, at_s)])
        self._write(("INSERT OR REPLACE INTO refusals VALUES (?, ?, ?, ?, ?)", rows))

    def totals(self) -> tuple[int, int]:
        """Return how many objects are known, and the sum of their bytes. Raises sqlite3.Error."""
        if self._is_held("read"):
            raise sqlite3.OperationalError("database is locked")
        query = "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM facts"
        ((files, size),) = retry_while_locked(lambda: self._query(query), wait_s=LOCK_WAIT_S)
        return int(files), int(size)

    def close(self) -> None:
        """Close it for good."""
        with fork_lock:
            self.disconnect()
            self._closed = True

    def disconnect(self) -> None:
        """Close the connection, under `fork_lock`; the next use opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _db(self) -> sqlite3.Connection:
        """Return the connection; call it under `fork_lock`, and use it there."""
        if self._connection is None:
            if self._closed:
                raise sqlite3.ProgrammingError("the index is closed")
            self._connection = self._connected()
            self._identity = identity(self._path)
        return self._connection

    def _connected(self) -> sqlite3.Connection:
        connection = connect(self._path, lock_wait_s=LOCK_STEP_S)
        try:
            connection.text_factory = _text
            connection.create_function("proof", -1, _proof, deterministic=True)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(_SCHEMA)
            if not _has_proofs(connection):
                _upgrade(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _rows(self, query: str, values: Row) -> list[Row]:
        if self._is_held("read"):
            return []
        return self._tried("read", lambda: self._query(query, values), [])

    def _query(self, query: str, values: Row = ()) -> list[Row]:
        return self._db().execute(query, values).fetchall()

    def _proved(self, table: str, rows: list[Row]) -> list[Row]:
        """Return the rows, without their proofs, that are as they were written; drop the others."""
        proved = [row[:-1] for row in rows if row[-1] == _proof(*row[:-1])]
        if len(proved) < len(rows):
            damaged = [(row[0],) for row in rows if row[-1] != _proof(*row[:-1])]
            self._unusable.warning("damaged rows of %s are dropped: %d", self._path, len(damaged))
            self._write((f"DELETE FROM {table} WHERE url = ?", damaged))  # noqa: S608
        return proved

    def _write(self, *statements: tuple[str, list[Row]]) -> bool:
        """Do all in one transaction; False when another process holds it, and only then."""
        if self.is_held:
            return False
        self._tried("written", lambda: self._transact(statements), None)
        return not self.is_held

    def _transact(self, statements: Sequence[tuple[str, list[Row]]]) -> None:
        if self._connection is not None and identity(self._path) != self._identity:
            self.disconnect()  # removed or replaced: what is written there nobody will find
            make_private(self._path.parent)
        database = self._db()
        with transaction(database):
            for statement, rows in statements:
                database.executemany(statement, rows)

    def _tried(self, what: str, operation: Callable[[], _T], otherwise: _T) -> _T:
        try:
            return retry_while_locked(lambda: self._unless_held(what, operation), wait_s=0)
        except (sqlite3.Error, OSError) as error:
            self._note(error, what)
            return otherwise

    def _unless_held(self, what: str, operation: Callable[[], _T]) -> _T:
        """Fail at once where another thread found it held: a hundred would wait for each other."""
        if self._is_held(what):
            raise sqlite3.OperationalError("database is locked")
        try:
            return operation()
        except sqlite3.OperationalError as error:
            if is_locked(error):
                self._held_until_s[what] = time.monotonic() + HELD_S
            raise

    def _note(self, error: Exception, what: str) -> None:
        if is_locked(error) and what == "opened":
            self._held_until_s = dict.fromkeys(self._held_until_s, time.monotonic() + HELD_S)
        self._unusable.warning("the facts index cannot be %s: %s", what, error)


def _proof(*values: object) -> bytes:
    """Return the checksum of a row: the URL is in it, so that no row passes for another's."""
    text = "\0".join(map(str, values))
    return xxhash.xxh3_64_digest(text.encode("utf-8", "surrogatepass"))


def _with_proofs(rows: Sequence[Row]) -> list[Row]:
    return [(*row, _proof(*row)) for row in rows]


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")  # a damaged text fails its checksum, not the query


def _has_proofs(connection: sqlite3.Connection) -> bool:
    columns = connection.execute("SELECT name FROM pragma_table_info('facts')").fetchall()
    return ("proof",) in columns


def _upgrade(connection: sqlite3.Connection) -> None:
    with transaction(connection):
        if not _has_proofs(connection):  # another process may have been faster
            for statement in _UPGRADE:
                connection.execute(statement)
