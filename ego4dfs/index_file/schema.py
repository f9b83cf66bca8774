"""The tables of an index file, and the checksum of a row.

docs/reference/index-file.md describes them. A change of a table needs a new FORMAT; a new table
does not: readers ignore tables that they do not know, and do not miss any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import xxhash

from ego4dfs.store import MAX_OBJECT_BYTES, MAX_TIME_NS

APPLICATION_ID = 0x45344958  # "E4IX", in the header of the file
FORMAT = 1
"""The `user_version` in the header of the file."""

MAX_MANIFEST_BYTES = 256 << 20
_MAX_URL_BYTES = 2048  # keys of S3 have at most 1024
_MAX_NAME_BYTES = 1024
_MAX_INTEGER = (1 << 63) - 1

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """A column; `limit` is the largest value of an INTEGER from 0 on, or the largest bytes."""

    name: str
    kind: type[str | int | bytes]
    limit: int

    def problem(self, value: object) -> str:
        """Return what is wrong with a value of this column, or ''."""
        if not isinstance(value, self.kind):
            return f"{self.name} is no {_TYPES[self.kind]}"
        size = value if isinstance(value, int) else len(_bytes(value))
        return "" if 0 <= size <= self.limit else f"{self.name} is out of range"


@dataclass(frozen=True, slots=True)
class Table:
    """A table; its rows have a checksum after these columns. The first `keys` are its key."""

    name: str
    columns: tuple[Column, ...]
    keys: int = 1

    @property
    def sql(self) -> str:
        """The statement that creates it, exactly as `sqlite_master` has it afterwards."""
        rows = [f"    {column.name} {_TYPES[column.kind]} NOT NULL" for column in self.columns]
        key = ", ".join(column.name for column in self.columns[: self.keys])
        rows += ["    checksum BLOB NOT NULL", f"    PRIMARY KEY ({key})"]
        return f"CREATE TABLE {self.name} (\n" + ",\n".join(rows) + "\n) WITHOUT ROWID"

    def problem(self, row: Sequence[object]) -> str:
        """Return what is wrong with a row and its checksum, or ''."""
        values, checksum = row[:-1], row[-1]
        for column, value in zip(self.columns, values, strict=True):
            if problem := column.problem(value):
                return problem
        return "" if checksum == checksum_of(values) else "its checksum is wrong"


_TYPES: dict[type, str] = {str: "TEXT", int: "INTEGER", bytes: "BLOB"}

ABOUT = Table("about", (Column("name", str, 100), Column("value", str, _MAX_URL_BYTES)))

MANIFESTS = Table(
    "manifests",
    (
        Column("version", str, 100),
        Column("dataset", str, _MAX_NAME_BYTES),
        Column("etag", str, _MAX_NAME_BYTES),
        Column("mtime_ns", int, MAX_TIME_NS),
        Column("content", bytes, MAX_MANIFEST_BYTES),
    ),
    keys=2,
)

FACTS = Table(
    "facts",
    (
        Column("url", str, _MAX_URL_BYTES),
        Column("size", int, MAX_OBJECT_BYTES),
        Column("etag", str, _MAX_NAME_BYTES),
        Column("version_id", str, _MAX_NAME_BYTES),
        Column("mtime_ns", int, MAX_TIME_NS),
    ),
)

MEDIA = Table(
    "media",
    (
        Column("url", str, _MAX_URL_BYTES),
        Column("size", int, MAX_OBJECT_BYTES),
        Column("etag", str, _MAX_NAME_BYTES),
        Column("index_start", int, MAX_OBJECT_BYTES),
        Column("index_stop", int, MAX_OBJECT_BYTES),
        Column("timescale", int, _MAX_INTEGER),
        Column("end_ticks", int, _MAX_INTEGER),
        Column("key_frames", bytes, 4 << 20),
    ),
)


def checksum_of(values: Sequence[object]) -> bytes:
    """Return the XXH3-64 of a row: its values as text with NUL between, bytes as their XXH3-64."""
    texts = (xxhash.xxh3_64_hexdigest(v) if isinstance(v, bytes) else str(v) for v in values)
    return xxhash.xxh3_64_digest(_bytes("\0".join(texts)))


def _bytes(value: str | bytes) -> bytes:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
