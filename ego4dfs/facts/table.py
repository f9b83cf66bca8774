"""The facts index on disk: rows in SQLite, several processes at a time, nothing lost at a fork."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ego4dfs.errors import CacheError
from ego4dfs.forks import disconnect_at_forks, whole
from ego4dfs.seldom import Seldom
from ego4dfs.sqliteerrors import remedy
from ego4dfs.store import ObjectFacts

log = logging.getLogger(__name__)

_LOCK_WAIT_S = 30
_ROWS_AT_ONCE = 500  # SQLite takes 999 values in one query at least

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (
    url TEXT PRIMARY KEY, size INTEGER NOT NULL, etag TEXT NOT NULL,
    version_id TEXT NOT NULL, mtime_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refusals (
    url TEXT PRIMARY KEY, missing INTEGER NOT NULL, message TEXT NOT NULL, at REAL NOT NULL
) WITHOUT ROWID;
"""

Row = tuple[Any, ...]


class FactsTable:
    """Facts and refusals by URL.

    One that cannot be read or written costs HEADs, never an error. Every use is under `whole`.
    """

    def __init__(self, path: Path) -> None:
        """Open or create it. Raises CacheError."""
        self._path = path
        self._closed = False
        self._unusable = Seldom(log)
        self._connection: sqlite3.Connection | None = None
        disconnect_at_forks(self)
        try:
            with whole:
                self._db().executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise CacheError(
                f"facts in {path} cannot be opened: {error}",
                hint=remedy(error, clear="ego4dfs cache clear --all"),
            ) from error

    def facts(self, urls: Sequence[str]) -> Iterator[tuple[str, ObjectFacts]]:
        """Yield what is known of these URLs."""
        rest = iter(urls)
        while some := tuple(islice(rest, _ROWS_AT_ONCE)):
            marks = ", ".join("?" * len(some))
            query = (
                f"SELECT url, size, etag, version_id, mtime_ns FROM facts WHERE url IN ({marks})"  # noqa: S608
            )
            yield from ((row[0], ObjectFacts(*row[1:])) for row in self._rows(query, some))

    def keep(self, rows: Sequence[tuple[str, ObjectFacts]]) -> None:
        """Write facts, in one transaction."""
        values = [(url, f.size, f.etag, f.version_id, f.mtime_ns) for url, f in rows]
        self._write("INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?, ?)", *values)

    def forget(self, url: str) -> None:
        """Drop the facts and the refusal of an object."""
        self._write("DELETE FROM facts WHERE url = ?", (url,))
        self._write("DELETE FROM refusals WHERE url = ?", (url,))

    def refusal(self, url: str) -> tuple[bool, str, float] | None:
        """Return whether the object was missing, what was said, and when."""
        rows = self._rows("SELECT missing, message, at FROM refusals WHERE url = ?", (url,))
        return (bool(rows[0][0]), str(rows[0][1]), float(rows[0][2])) if rows else None

    def refused(self, since_s: float, until_s: float) -> set[str]:
        """Return the URLs that were refused in this time."""
        query = "SELECT url FROM refusals WHERE at > ? AND at <= ?"
        return {row[0] for row in self._rows(query, (since_s, until_s))}

    def refuse(self, url: str, message: str, at_s: float, *, is_missing: bool) -> None:
        """Write a refusal."""
        row = (url, is_missing, message, at_s)
        self._write("INSERT OR REPLACE INTO refusals VALUES (?, ?, ?, ?)", row)

    def totals(self) -> tuple[int, int]:
        """Return how many objects are known, and the sum of their bytes. Raises sqlite3.Error."""
        with whole:
            query = "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM facts"
            files, size = self._db().execute(query).fetchone()
        return int(files), int(size)

    def close(self) -> None:
        """Close it for good."""
        with whole:
            self.disconnect()
            self._closed = True

    def disconnect(self) -> None:
        """Close the connection, under `whole`; the next use opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _db(self) -> sqlite3.Connection:
        """Return the connection; call it under `whole`, and use it there."""
        if self._connection is None:
            if self._closed:
                raise sqlite3.ProgrammingError("the index is closed")
            self._connection = sqlite3.connect(
                self._path, timeout=_LOCK_WAIT_S, check_same_thread=False, isolation_level=None
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
        return self._connection

    def _rows(self, query: str, values: Row) -> list[Row]:
        with whole:
            try:
                return self._db().execute(query, values).fetchall()
            except sqlite3.Error as error:
                self._unusable.warning("the facts index cannot be read: %s", error)
                return []

    def _write(self, statement: str, *rows: Row) -> None:
        try:
            with whole:
                database = self._db()
                database.execute("BEGIN IMMEDIATE")
                try:
                    database.executemany(statement, rows)
                finally:
                    database.execute("COMMIT")
        except sqlite3.Error as error:
            self._unusable.warning("the facts index cannot be written: %s", error)
