"""The facts on disk: rows in SQLite, each with a checksum, shared by several processes."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from ego4dfs.store import MAX_OBJECT_BYTES, MAX_TIME_NS, ObjectFacts

log = logging.getLogger(__name__)

LOCK_WAIT_S = 0.3
"""How long opening and `totals` wait for another process; other uses wait LOCK_STEP_S."""
INSERT_WAIT_S = 10.0
"""How long an import waits for another process: a command that the user waits for has no other."""
LOCKED_S = 3.0
"""How long no use waits after that: facts count as unknown, and writes are deferred."""

ROWS_PER_QUERY = 500  # SQLite accepts at least 999 values in one query
_FACTS = "url, size, etag, version_id, mtime_ns"
_INSERT = f"INSERT OR REPLACE INTO facts ({_FACTS}, proof) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608 - only our own names are inserted
_CONFIRMED = "url, size, etag"
_REFUSALS = "url, missing, message, at"
# Processes of several versions of ego4dfs use one table: the columns and checksums of `facts` must
# not change. So `confirmed` is a table of its own; a row is valid for facts of this size and ETag.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (
    url TEXT PRIMARY KEY, size INTEGER NOT NULL, etag TEXT NOT NULL,
    version_id TEXT NOT NULL, mtime_ns INTEGER NOT NULL, proof BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS confirmed (
    url TEXT PRIMARY KEY, size INTEGER NOT NULL, etag TEXT NOT NULL, proof BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refusals (
    url TEXT PRIMARY KEY, missing INTEGER NOT NULL, message TEXT NOT NULL, at REAL NOT NULL,
    proof BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS media (
    url TEXT PRIMARY KEY, size INTEGER NOT NULL, etag TEXT NOT NULL,
    index_start INTEGER NOT NULL, index_stop INTEGER NOT NULL,
    timescale INTEGER NOT NULL, end_ticks INTEGER NOT NULL, key_frames BLOB NOT NULL, proof BLOB
) WITHOUT ROWID;
"""
# Rows of versions without checksums are accepted as they are: a GET detects a wrong size.
_UPGRADE = (
    "ALTER TABLE facts ADD COLUMN proof BLOB",
    f"UPDATE facts SET proof = proof({_FACTS})",  # noqa: S608
    "ALTER TABLE refusals ADD COLUMN proof BLOB",
    "DELETE FROM refusals",
)

Row = tuple[Any, ...]
_T = TypeVar("_T")


class FactsTable:
    """Facts and refusals by URL, in one SQLite database.

    A table that cannot be read or written, or that another process has locked, costs HEAD
    requests, never an error. A row whose checksum is wrong is deleted. Every use is under
    `fork_lock`.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the database; one that is locked is opened at its next use.

        Raises CacheError.
        """
        self._path = path
        self._closed = False
        self._unusable = ThrottledLog(log)
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._locked_until_s = {"read": 0.0, "written": 0.0}
        disconnect_at_forks(self)
        try:
            retry_while_locked(self._db, wait_s=LOCK_WAIT_S)
        except sqlite3.Error as error:
            if is_locked(error):
                self._warn(error, "opened")
                return
            raise CacheError(
                f"facts in {path} cannot be opened: {error}",
                hint=remedy(error, clear="ego4dfs cache clear --all", directory=path.parent),
            ) from error

    @property
    def is_locked(self) -> bool:
        """Whether another process has locked it, so that writes are deferred."""
        return self._is_locked("written")

    def _is_locked(self, what: str) -> bool:
        return time.monotonic() < self._locked_until_s[what]

    def facts(self, urls: Sequence[str]) -> dict[str, ObjectFacts]:
        """Return the facts of those URLs that have a row with possible values."""
        found = {}
        for some in batches(urls):
            rows = self.rows_of("facts", _FACTS, some)
            known = tuple(row[0] for row in rows)
            confirmed = set(self.rows_of("confirmed", _CONFIRMED, known)) if known else set()
            for row in rows:
                facts = ObjectFacts(*row[1:], has_confirmed_size=row[:3] in confirmed)
                if _is_possible(facts):
                    found[row[0]] = facts
        return found

    def apply(
        self, changes: Mapping[str, ObjectFacts | None], confirmed: Mapping[str, ObjectFacts]
    ) -> bool:
        """Write facts, and delete those given as None; False if the table is locked.

        Of `confirmed`, whose facts are in rows already, only that a GET had this size is written.
        Facts with values that SQLite cannot store are not written.
        """
        dropped = [(url,) for url, facts in changes.items() if facts is None]
        known = [(url, f) for url, f in changes.items() if f is not None and _is_storable(url, f)]
        rows = [(url, f.size, f.etag, f.version_id, f.mtime_ns) for url, f in known]
        sizes = [
            (url, f.size, f.etag) for url, f in (*known, *confirmed.items()) if f.has_confirmed_size
        ]
        return self.write(
            ("DELETE FROM facts WHERE url = ?", dropped),
            ("DELETE FROM confirmed WHERE url = ?", dropped),
            ("DELETE FROM refusals WHERE url = ?", dropped),
            ("DELETE FROM media WHERE url = ?", dropped),
            (_INSERT, with_checksums(rows)),
            ("INSERT OR REPLACE INTO confirmed VALUES (?, ?, ?, ?)", with_checksums(sizes)),
        )

    def insert(self, table: str, rows: Sequence[Row], wait_s: float = INSERT_WAIT_S) -> set[str]:
        """Insert rows, which begin with a URL, of objects without one; return the URLs inserted.

        Waits for another process, `wait_s`. Raises CacheError if they cannot be written.
        """
        try:
            return retry_while_locked(lambda: self._insert(table, rows), wait_s=wait_s)
        except (sqlite3.Error, OSError) as error:
            raise CacheError(
                f"facts in {self._path} cannot be written: {error}",
                hint=remedy(error, clear="ego4dfs cache clear --all"),
            ) from error

    def _insert(self, table: str, rows: Sequence[Row]) -> set[str]:
        database = self._db_to_write()
        inserted = set()
        with transaction(database):
            for row in with_checksums(rows):
                marks = ", ".join("?" * len(row))
                statement = f"INSERT OR IGNORE INTO {table} VALUES ({marks})"  # noqa: S608
                if database.execute(statement, row).rowcount:
                    inserted.add(row[0])
        return inserted

    def refusal(self, url: str) -> tuple[bool, str, float] | None:
        """Return whether the object was missing, the message, and when (seconds since the epoch).

        None if there is no record of a refusal.
        """
        rows = self.rows_of("refusals", _REFUSALS, (url,))
        return (bool(rows[0][1]), str(rows[0][2]), float(rows[0][3])) if rows else None

    def refused_urls(self, since_s: float, until_s: float) -> set[str]:
        """Return the URLs refused after `since_s`, until `until_s`, in seconds since the epoch."""
        query = "SELECT url FROM refusals WHERE at > ? AND at <= ?"
        return {row[0] for row in self._rows(query, (since_s, until_s))}

    def record_refusal(self, url: str, message: str, at_s: float, *, is_missing: bool) -> None:
        """Record that an object was refused or missing."""
        rows = with_checksums([(url, int(is_missing), message, at_s)])
        self.write(("INSERT OR REPLACE INTO refusals VALUES (?, ?, ?, ?, ?)", rows))

    def rows_of(self, table: str, columns: str, urls: Row) -> list[Row]:
        """Return the valid rows of these URLs."""
        marks = ", ".join("?" * len(urls))
        query = f"SELECT {columns}, proof FROM {table} WHERE url IN ({marks})"  # noqa: S608
        return self._valid_rows(table, self._rows(query, urls))

    def rows_below(self, table: str, columns: str, prefix: str, limit: int) -> list[Row]:
        """Return at most `limit` valid rows whose URL begins with `prefix`, which ends with "/"."""
        query = f"SELECT {columns}, proof FROM {table} WHERE url > ? AND url < ? LIMIT ?"  # noqa: S608
        rows = self._rows(query, (prefix, f"{prefix[:-1]}0", limit))  # "0" comes after "/"
        return self._valid_rows(table, rows)

    def totals(self) -> tuple[int, int]:
        """Return how many objects are known, and the sum of their bytes. Raises sqlite3.Error."""
        if self._is_locked("read"):
            raise sqlite3.OperationalError("database is locked")
        query = "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM facts WHERE size BETWEEN 0 AND ?"
        limits = (MAX_OBJECT_BYTES,)
        rows = retry_while_locked(lambda: self._query(query, limits), wait_s=LOCK_WAIT_S)
        ((files, size),) = rows
        return int(files), int(size)

    def write(self, *statements: tuple[str, list[Row]]) -> bool:
        """Run all in one transaction; return False only if the table is locked."""
        if self.is_locked:
            return False
        self._try("written", lambda: self._transact(statements), None)
        return not self.is_locked

    def close(self) -> None:
        """Close the table; later uses find nothing and write nothing."""
        with fork_lock:
            self.disconnect()
            self._closed = True

    def disconnect(self) -> None:
        """Close the connection; called under `fork_lock`. The next use opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _db(self) -> sqlite3.Connection:
        """Return the connection; to be called, and used, under `fork_lock`."""
        if self._connection is None:
            if self._closed:
                raise sqlite3.ProgrammingError("the index is closed")
            self._connection = self._connected()
            self._identity = identity(self._path)
        return self._connection

    def _db_to_write(self) -> sqlite3.Connection:
        """Return the connection as `_db` does, to the file that is there now. Raises OSError."""
        if self._connection is not None and identity(self._path) != self._identity:
            self.disconnect()  # of a file that was removed or replaced
            make_private(self._path.parent)
        return self._db()

    def _connected(self) -> sqlite3.Connection:
        connection = connect(self._path, lock_wait_s=LOCK_STEP_S)
        try:
            connection.text_factory = _text
            connection.create_function("proof", -1, _checksum, deterministic=True)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(_SCHEMA)
            if not _has_checksums(connection):
                _upgrade(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _rows(self, query: str, values: Row) -> list[Row]:
        if self._is_locked("read"):
            return []
        return self._try("read", lambda: self._query(query, values), [])

    def _query(self, query: str, values: Row = ()) -> list[Row]:
        return self._db().execute(query, values).fetchall()

    def _valid_rows(self, table: str, rows: list[Row]) -> list[Row]:
        """Return the rows with a valid checksum, without it; delete the other rows."""
        valid = [row[:-1] for row in rows if row[-1] == _checksum(*row[:-1])]
        if len(valid) < len(rows):
            damaged = [(row[0],) for row in rows if row[-1] != _checksum(*row[:-1])]
            self._unusable.warning("damaged rows of %s were deleted: %d", self._path, len(damaged))
            self.write((f"DELETE FROM {table} WHERE url = ?", damaged))  # noqa: S608
        return valid

    def _transact(self, statements: Sequence[tuple[str, list[Row]]]) -> None:
        database = self._db_to_write()
        with transaction(database):
            for statement, rows in statements:
                database.executemany(statement, rows)

    def _try(self, what: str, operation: Callable[[], _T], otherwise: _T) -> _T:
        try:
            return retry_while_locked(lambda: self._unless_locked(what, operation), wait_s=0)
        except (sqlite3.Error, OSError) as error:
            self._warn(error, what)
            return otherwise

    def _unless_locked(self, what: str, operation: Callable[[], _T]) -> _T:
        """Fail if another thread has found it locked: threads would wait one by one."""
        if self._is_locked(what):
            raise sqlite3.OperationalError("database is locked")
        try:
            return operation()
        except sqlite3.OperationalError as error:
            if is_locked(error):
                self._locked_until_s[what] = time.monotonic() + LOCKED_S
            raise

    def _warn(self, error: Exception, what: str) -> None:
        if self._closed:
            return  # a request that ended after `close` is no fault of the index
        if is_locked(error) and what == "opened":
            self._locked_until_s = dict.fromkeys(self._locked_until_s, time.monotonic() + LOCKED_S)
        self._unusable.warning("the facts index cannot be %s: %s", what, error)


def batches(urls: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """Yield URLs in groups for `FactsTable.rows_of`."""
    rest = iter(urls)
    while some := tuple(islice(rest, ROWS_PER_QUERY)):
        yield some


def _is_storable(url: str, facts: ObjectFacts) -> bool:
    """Return whether a row can hold these facts."""
    try:
        f"{url}{facts.etag}{facts.version_id}".encode()
    except UnicodeEncodeError:
        return False
    return _is_possible(facts)


def _is_possible(facts: ObjectFacts) -> bool:
    """Return whether the numbers of these facts can be right."""
    try:
        return 0 <= facts.size <= MAX_OBJECT_BYTES and abs(facts.mtime_ns) <= MAX_TIME_NS
    except TypeError:
        return False


def _checksum(*values: object) -> bytes:
    """Return the checksum of a row; it includes the URL, so rows cannot be swapped."""
    text = "\0".join(map(str, values))
    return xxhash.xxh3_64_digest(text.encode("utf-8", "surrogatepass"))


def with_checksums(rows: Sequence[Row]) -> list[Row]:
    """Return rows with the checksum of each as its last value."""
    return [(*row, _checksum(*row)) for row in rows]


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")  # a damaged string fails its checksum, not the query


def _has_checksums(connection: sqlite3.Connection) -> bool:
    columns = connection.execute("SELECT name FROM pragma_table_info('facts')").fetchall()
    return ("proof",) in columns


def _upgrade(connection: sqlite3.Connection) -> None:
    with transaction(connection):
        if not _has_checksums(connection):  # another process may have done it since
            for statement in _UPGRADE:
                connection.execute(statement)
