"""Reading of an index file that nobody vouches for: bounded in time and memory, read-only.

SQLite executes what a schema says: views, triggers, generated columns. So each table must have
exactly the definition of `schema`, and no other object of the file is used. A damaged b-tree can
have the same pages many times. So a file yields no more bytes than it has, and takes no more steps.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ego4dfs.errors import ConfigError, os_error_text
from ego4dfs.files import open_regular
from ego4dfs.index_file.schema import (
    ABOUT,
    APPLICATION_ID,
    FORMAT,
    MAX_MANIFEST_BYTES,
    Row,
    Table,
)
from ego4dfs.sqlite import connect
from ego4dfs.text import human_size

MAX_FILE_BYTES = 4 << 30
"""The largest index file that is read; that of all of Ego4D has less than 1 GiB."""

_MAX_ROW_BYTES = MAX_MANIFEST_BYTES + (1 << 20)
_HEADER_BYTES = 100
_MAGIC = b"SQLite format 3\0"
_UTF_8 = 1
_STEPS = 100_000  # of SQLite's virtual machine, between two checks of the limit
_LEAST_STEPS = 10_000_000  # for the schema; a row takes about 15
_SHOWN_CHARACTERS = 200

_PRAGMAS = ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "query_only = ON")


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is not used: its table, its key as far as it can be shown, and the reason."""

    table: str
    key: str
    reason: str


class IndexReader:
    """One index file, opened read-only; used from one thread."""

    def __init__(self, path: Path) -> None:
        """Open a file; nothing is written to it or beside it.

        Raises ConfigError for a file that cannot be read, or is no index file of this format.
        """
        self._path = path
        self._size = _checked_size(path)
        self._steps_left = _LEAST_STEPS + self._size
        self._bytes_left = 2 * self._size  # SQLite's text may be larger here than in the file
        try:
            self._connection = self._connected()
        except sqlite3.Error as error:
            raise self._unusable(f"cannot be read: {error}") from error
        try:
            rows = [row for row in self.rows(ABOUT) if not isinstance(row, BadRow)]
        except ConfigError:
            self.close()
            raise
        self.about = {str(name): str(value) for name, value in rows}
        """What the table `about` says: source, created, and more."""

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def rows(self, table: Table) -> Iterator[Row | BadRow]:
        """Yield the rows of a table without their checksums, of the types in `schema`.

        A row that has others, or a wrong checksum, is a BadRow, and so is a part of the table that
        cannot be read. A table that the file does not have is empty. Raises ConfigError if it has
        the table with another definition.
        """
        if not self._has(table):
            return
        names = ", ".join(column.name for column in table.columns)
        query = f"SELECT {names}, checksum FROM {table.name} NOT INDEXED"  # noqa: S608 - our names
        try:
            for row in self._connection.execute(query):
                self._bytes_left -= sum(len(v) for v in row if isinstance(v, (str, bytes)))
                if self._bytes_left < 0:
                    raise sqlite3.DatabaseError("it repeats parts of itself")
                problem = table.problem(row)
                yield BadRow(table.name, _shown(table, row), problem) if problem else row[:-1]
        except sqlite3.Error as error:
            yield BadRow(table.name, "the rest of it", f"cannot be read: {error}")

    def _connected(self) -> sqlite3.Connection:
        uri = f"{self._path.absolute().as_uri()}?mode=ro&immutable=1"
        connection = connect(uri, lock_wait_s=0)
        connection.text_factory = _text
        connection.set_progress_handler(self._is_over_limit, _STEPS)
        with suppress(AttributeError):  # Python 3.10
            limit = sqlite3.SQLITE_LIMIT_LENGTH  # type: ignore[attr-defined]
            connection.setlimit(limit, _MAX_ROW_BYTES)  # type: ignore[attr-defined]
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _is_over_limit(self) -> bool:
        """Count steps; True ends the query with an error."""
        self._steps_left -= _STEPS
        return self._steps_left < 0

    def _has(self, table: Table) -> bool:
        query = "SELECT type, sql FROM sqlite_master WHERE name = ?"
        try:
            found = self._connection.execute(query, (table.name,)).fetchmany(2)
        except sqlite3.Error as error:
            raise self._unusable(f"cannot be read: {error}") from error
        if found and found != [("table", table.sql)]:
            raise self._unusable(f"its table {table.name} is not that of an index file")
        return bool(found)

    def _unusable(self, reason: str) -> ConfigError:
        return _unusable(self._path, reason)


def _checked_size(path: Path) -> int:
    """Return the size of an index file, by its header. Raises ConfigError."""
    try:
        with open(open_regular(path), "rb") as file:  # noqa: PTH123 - a descriptor
            size = os.fstat(file.fileno()).st_size
            header = file.read(_HEADER_BYTES)
    except OSError as error:
        raise _unusable(path, os_error_text(error)) from error
    encoding, version = _number(header, 56), _number(header, 60)
    is_ours = header.startswith(_MAGIC) and _number(header, 68) == APPLICATION_ID
    if len(header) < _HEADER_BYTES or not is_ours:
        raise _unusable(path, "is not an index file")
    if version != FORMAT or encoding != _UTF_8:
        raise _unusable(path, "is an index file of another format; update ego4dfs")
    if size > MAX_FILE_BYTES:
        raise _unusable(path, f"is larger than {human_size(MAX_FILE_BYTES)}")
    return size


def _number(header: bytes, offset: int) -> int:
    return int.from_bytes(header[offset : offset + 4], "big")


def _unusable(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"{path}: {reason}", hint="name a file that `ego4dfs index export` has written"
    )


def _shown(table: Table, row: Row) -> str:
    key = " ".join(str(value)[:_SHOWN_CHARACTERS] for value in row[: table.keys])
    return key[:_SHOWN_CHARACTERS]


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")  # its checksum is wrong then
