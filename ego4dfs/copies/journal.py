"""The journal: which copies are complete, and which bytes of the others are on disk.

The file is `<root>/.ego4dfs/journal.sqlite`. A range is recorded when it is written, with the id
of the boot of this machine: its bytes are in the page cache, which outlives a killed process but
not a reboot. When the range is synced, the id is removed: then its bytes are on disk.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ego4dfs.copies import journal_file
from ego4dfs.copies.journal_tables import FORMER_NAMES, TABLES, is_valid
from ego4dfs.copies.record import Record, is_same_time, record_of_row
from ego4dfs.sqlite import connect, copy_database, transaction
from ego4dfs.store import ObjectFacts

NAME = "journal.sqlite"
_AT_ONCE = 900  # below the 999 values that old versions of SQLite allow in one statement

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PartialDownload:
    """An unfinished copy: its version, its part file, and the ranges on disk."""

    url: str
    etag: str
    size: int
    part_name: str
    ranges: tuple[tuple[int, int], ...]


class JournalError(OSError):
    """The journal cannot be written, so a run cannot record anything."""


class Journal:
    """The journal of one directory of copies, held by one process at a time.

    Safe from several threads. Raises OutputError when it cannot be opened or read, and
    JournalError when it cannot be written. `_partial` has the paths of all unfinished copies, so
    small files, which are never recorded as unfinished, need no statements that delete such rows.
    """

    def __init__(
        self,
        state: Path,
        *,
        read_only: bool = False,
        wait_s: float = 0.0,
        is_checked: bool = False,
    ) -> None:
        """Open or create the journal in `state`, and lock the directory against other prefetches.

        With `read_only` nothing is created or locked, and the journal cannot be written. Another
        process that holds it is waited for during `wait_s`. With `is_checked` its rows are known to
        be valid, which takes 0.15 s to check for 100,000.
        """
        self._lock = threading.Lock()  # guards the connection
        self._boot = journal_file.boot_id()
        self._path = state / NAME
        self._held = -1
        if read_only:
            self._db = journal_file.open_to_look(self._path)
        else:
            self._held, self._db = journal_file.open_to_write(self._path, wait_s)
        with ExitStack() as failed:
            failed.callback(Journal.close, self)
            with self._usable():
                if read_only and not self._names():  # none, or an empty one
                    self._db.close()
                    self._db = connect(":memory:", lock_wait_s=0)
                elif read_only:
                    journal_file.check(self._db)
                if read_only:
                    self._show_valid_rows()
                else:
                    self._create(is_checked=is_checked)
            self._note_rows()
            failed.pop_all()

    @property
    def writable(self) -> bool:
        """Whether it was opened for writing, and not only for reading."""
        return self._held >= 0

    @property
    def is_shared(self) -> bool:
        """Whether other processes write to the same directories of copies."""
        return False

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other processes from the records that all write: this one is alone."""
        yield

    @classmethod
    def empty(cls) -> Journal:
        """Return a journal without records, to use in place of one that cannot be read."""
        return cls(Path(os.devnull), read_only=True)

    def records(self, directory: str = "") -> Iterator[tuple[str, Record]]:
        """Yield the complete copies by path: all, or those in a directory and not below it.

        They are read lazily: there may be 100,000.
        """
        where = ""
        values: tuple[object, ...] = ()
        if directory:
            where = " WHERE path >= ? AND path < ? AND instr(substr(path, ?), '/') = 0"
            # "0" follows "/" in ASCII.
            values = (f"{directory}/", f"{directory}0", len(directory) + 2)
        rows = self._select(
            "SELECT path, url, source, release, checksum, COALESCE(at, 0.0),"  # noqa: S608 - constants
            " COALESCE(times.mtime_ns, 0), size, etag, version_id, files.mtime_ns"
            f" FROM files LEFT JOIN checked USING (path) LEFT JOIN times USING (path){where}",
            values,
        )
        while some := self._fetch(rows):
            yield from ((row[0], record_of_row(row)) for row in some)

    def is_complete(self, path: str) -> bool:
        """Return whether the journal has a record of a complete copy at this path."""
        return bool(self._all("SELECT 1 FROM files WHERE path = ?", (path,)))

    def confirm(self, paths: Iterable[str]) -> None:
        """Record that S3 has confirmed these copies as the latest; nothing if it is read-only."""
        rest = iter(paths)
        while self.writable and (some := list(islice(rest, _AT_ONCE))):
            self._write(*(_checked(path) for path in some))

    def evidence(self, source: str) -> list[tuple[str, str, str]]:
        """Return the evidence about buckets, as (bucket, kind, detail).

        An earlier version of ego4dfs recorded for each copy only whether its ETag agreed.
        """
        bucket = "substr(url, 6, instr(substr(url, 6), '/') - 1)"  # after s3://
        query = (
            f"SELECT DISTINCT {bucket}, 'agreed', '' FROM files"  # noqa: S608 - a constant
            " WHERE ? IN ('', source) AND checksum = 'md5'"
        )
        rows = self._all(query, (source,))
        query = "SELECT bucket, kind, detail FROM evidence WHERE ? IN ('', source)"
        return rows + self._all(query, (source,))

    def note_evidence(
        self, source: str, bucket: str, kind: str, detail: str, *, against: str = ""
    ) -> None:
        """Record a fact about the ETags in a bucket, and delete the one of kind `against`."""
        ended = "DELETE FROM evidence WHERE source = ? AND bucket = ? AND kind = ?"
        recorded = "INSERT OR REPLACE INTO evidence VALUES (?, ?, ?, ?)"
        self._write((ended, (source, bucket, against)), (recorded, (source, bucket, kind, detail)))

    def partial_download(self, path: str) -> PartialDownload | None:
        """Return the record of an unfinished copy, without ranges that a reboot may have lost."""
        if self.writable and path not in self._partial:
            return None
        # Only one thread downloads a path, so nothing changes between the two.
        query = "SELECT url, etag, size, part_name FROM downloads WHERE path = ?"
        part = self._all(query, (path,))
        if not part:
            return None
        ranges = self._all(
            "SELECT start, stop FROM ranges WHERE path = ? AND boot IN ('', ?) ORDER BY start",
            (path, self._boot),
        )
        url, etag, size, part_name = part[0]
        return PartialDownload(url, etag, size, part_name, tuple(ranges))

    def partial_bytes(self) -> dict[str, int]:
        """Return how many bytes of each unfinished copy are on disk, by path."""
        return dict(self._all("SELECT path, SUM(stop - start) FROM ranges GROUP BY path"))

    def begin(self, path: str, url: str, facts: ObjectFacts, part_name: str) -> None:
        """Record that a download of this version starts from zero in the file `part_name`."""
        self._write(
            ("DELETE FROM ranges WHERE path = ?", (path,)),
            (
                "INSERT OR REPLACE INTO downloads VALUES (?, ?, ?, ?, ?)",
                (path, url, facts.etag, facts.size, part_name),
            ),
        )
        self._partial.add(path)

    def written(self, path: str, start: int, stop: int) -> None:
        """Record a range that is in the page cache; it starts where its earlier record starts."""
        row = (path, start, stop, self._boot)
        self._write(("INSERT OR REPLACE INTO ranges VALUES (?, ?, ?, ?)", row))

    def synced(self, path: str, ranges: Iterable[tuple[int, int]]) -> None:
        """Record ranges as synced, given as (start, stop), each recorded as written before."""
        self._write(
            *(
                (
                    "UPDATE ranges SET boot = '' WHERE path = ? AND start = ? AND stop = ?",
                    (path, start, stop),
                )
                for start, stop in ranges
            )
        )

    def complete(self, records: Iterable[tuple[str, Record]]) -> None:
        """Record copies that are complete under their own names."""
        rest = iter(records)
        while some := list(islice(rest, _AT_ONCE)):
            self._write(
                *(statement for path, record in some for statement in self._done(path, record))
            )
            self._partial.difference_update(path for path, _ in some)

    def remove(self, paths: Iterable[str]) -> None:
        """Delete the records of complete copies that no longer exist."""
        self._write(*(("DELETE FROM files WHERE path = ?", (path,)) for path in paths))

    def forget(self, path: str) -> None:
        """Delete the record and the ranges of an unfinished copy."""
        if path in self._partial:
            self._write(*_forgotten(path))
            self._partial.discard(path)

    def copy_all(self, other: Journal) -> None:
        """Have the rows of another journal in place of its own. Raises JournalError.

        The next statement is slow: it moves the copy from SQLite's log into the database.
        """
        with self._lock, other._lock:
            try:
                copy_database(other._db, self._db, wait_s=journal_file.LOCK_WAIT_S)
            except sqlite3.Error as error:
                raise self._failed(error) from error

    def sync(self) -> None:
        """Have all rows on disk, where a power loss leaves them. Raises OutputError."""
        self._all("PRAGMA wal_checkpoint(TRUNCATE)")

    def rows(self, paths: Collection[str]) -> dict[str, list[Any]]:
        """Return the rows of these paths by table, and all evidence, for `replace_rows`."""
        found: dict[str, list[Any]] = {table: [] for table in TABLES}
        found["evidence"] = self._all("SELECT * FROM evidence")
        rest = iter(sorted(paths))
        while some := tuple(islice(rest, _AT_ONCE)):
            marks = ", ".join("?" * len(some))
            for table in TABLES.keys() - {"evidence"}:
                query = f"SELECT * FROM {table} WHERE path IN ({marks})"  # noqa: S608 - constants
                found[table] += self._all(query, some)
        return found

    def complete_part_names(self) -> list[str]:
        """Return the complete copies whose names are like those of unfinished ones."""
        return [path for (path,) in self._all("SELECT path FROM files WHERE path GLOB '*.part*'")]

    def replace_rows(self, paths: Collection[str], rows: Mapping[str, list[Any]]) -> None:
        """Replace all rows of these paths, and add the evidence.

        Raises JournalError, and OutputError.
        """
        for table, new in rows.items():
            verb = "INSERT OR IGNORE" if table == "evidence" else "REPLACE"
            if table != "evidence":
                self._write(*((f"DELETE FROM {table} WHERE path = ?", (p,)) for p in paths))  # noqa: S608 - a constant
            for row in new[:1]:
                query = f"{verb} INTO {table} VALUES ({', '.join('?' * len(row))})"
                self._write(*((query, values) for values in new))
        self._note_rows()

    def _note_rows(self) -> None:
        """Keep in memory what nearly all calls find to be empty. Raises OutputError."""
        unfinished = "SELECT path FROM downloads UNION SELECT path FROM ranges"
        self._partial = {path for (path,) in self._all(unfinished)} if self.writable else set()
        self._has_times = bool(self._all("SELECT 1 FROM times LIMIT 1"))

    def close(self) -> None:
        """Close the journal, and release the lock of the directory."""
        with self._lock:
            self._db.close()
            if self.writable:
                os.close(self._held)
                self._held = -1

    def _create(self, *, is_checked: bool) -> None:
        """Create the tables; move the rows of tables that have their former name.

        Rows that are not valid are deleted: they count as absent.
        """
        for name, columns in TABLES.items():
            self._db.execute(f"CREATE TABLE IF NOT EXISTS {name} ({columns}) WITHOUT ROWID")
        former = {new: old for new, old in FORMER_NAMES.items() if old in self._names()}
        deleted = 0
        with transaction(self._db):
            for new, old in former.items():
                self._db.execute(f"INSERT OR REPLACE INTO {new} SELECT * FROM {old}")  # noqa: S608 - constants
                self._db.execute(f"DROP TABLE {old}")
            for name in () if is_checked else TABLES:
                query = f"DELETE FROM {name} WHERE NOT {is_valid(name)}"  # noqa: S608 - constants
                deleted += self._db.execute(query).rowcount
        if deleted:
            log.warning("%s: %d rows that are not valid were deleted", self._path, deleted)

    def _show_valid_rows(self) -> None:
        """Hide each table behind a view of its valid rows, and show missing ones as empty.

        The journal of an earlier version lacks some. Nothing is written.
        """
        self._db.execute("PRAGMA temp_store = MEMORY")
        present = self._names()
        for name, columns in TABLES.items():
            former = FORMER_NAMES.get(name, name)
            table = name if name in present else former
            if table not in present:
                self._db.execute(f"CREATE TEMP TABLE {name} ({columns})")
                continue
            query = f"SELECT * FROM main.{table} WHERE {is_valid(name)}"  # noqa: S608 - constants
            self._db.execute(f"CREATE TEMP VIEW {name} AS {query}")

    def _names(self) -> frozenset[str]:
        rows = self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return frozenset(name for (name,) in rows)

    def _done(self, path: str, record: Record) -> Iterator[tuple[str, tuple[object, ...]]]:
        """Yield the statements that record a complete copy; small files need thousands a second."""
        facts = record.facts
        row = (path, record.url, record.source, record.release)
        version = (facts.size, facts.etag, facts.version_id, facts.mtime_ns, record.checksum)
        yield "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, *version)
        yield _checked(path)
        if not is_same_time(record.file_mtime_ns, facts.mtime_ns):
            self._has_times = True
            yield "INSERT OR REPLACE INTO times VALUES (?, ?)", (path, record.file_mtime_ns)
        elif self._has_times:
            yield "DELETE FROM times WHERE path = ?", (path,)
        if path in self._partial:
            yield from _forgotten(path)

    def _select(self, query: str, row: tuple[object, ...] = ()) -> sqlite3.Cursor:
        with self._usable():
            return self._db.execute(query, row)

    def _all(self, query: str, row: tuple[object, ...] = ()) -> list[Any]:
        with self._usable():
            return self._db.execute(query, row).fetchall()

    def _fetch(self, rows: sqlite3.Cursor) -> list[Any]:
        with self._usable():
            return rows.fetchmany(_AT_ONCE)

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Hold the lock, and raise OutputError for an error of SQLite."""
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise journal_file.unusable(self._path, error) from error

    def _write(self, *statements: tuple[str, tuple[object, ...]]) -> None:
        with self._lock:
            try:
                if len(statements) == 1:
                    self._db.execute(*statements[0])
                    return
                with transaction(self._db):
                    for statement, row in statements:
                        self._db.execute(statement, row)
            except sqlite3.Error as error:
                raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error) -> JournalError:
        number, reason = errno.EIO, str(error)
        if journal_file.has_no_room(self._path, error):
            number, reason = errno.ENOSPC, f"no space left on device ({error})"
        return JournalError(number, f"the journal: {reason}", str(self._path))


def _forgotten(path: str) -> Iterator[tuple[str, tuple[object, ...]]]:
    yield "DELETE FROM downloads WHERE path = ?", (path,)
    yield "DELETE FROM ranges WHERE path = ?", (path,)


def _checked(path: str) -> tuple[str, tuple[object, ...]]:
    return "INSERT OR REPLACE INTO checked VALUES (?, ?)", (path, time.time())
