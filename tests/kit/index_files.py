"""Index files for tests: written row by row, with the right checksums or without, and damaged."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from ego4dfs.index_file.schema import ABOUT, APPLICATION_ID, FORMAT, Row, Table, checksum_of
from ego4dfs.sqlite import connect


def write_index(path: Path, source: str, rows: dict[Table, Iterable[Row]]) -> Path:
    """Write an index file whose rows have any values, and right checksums; return its path."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {FORMAT}")
        for table, found in {ABOUT: [("source", source)], **rows}.items():
            database.execute(table.sql)
            for row in found:
                marks = ", ".join("?" * (len(row) + 1))
                values = (*row, checksum_of(row))
                database.execute(f"INSERT INTO {table.name} VALUES ({marks})", values)  # noqa: S608
    return path


def change(path: Path, *statements: str) -> None:
    """Run statements on an index file; `PRAGMA writable_schema` is on."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA writable_schema = ON")
        for statement in statements:
            database.execute(statement)


def reseal(path: Path, table: Table) -> None:
    """Give all rows of a table the checksum of what they have now. Raises sqlite3.Error."""
    with closing(connect(path, lock_wait_s=0)) as database:
        database.create_function("checksum_of", -1, lambda *values: checksum_of(values))
        names = ", ".join(column.name for column in table.columns)
        database.execute(f"UPDATE {table.name} SET checksum = checksum_of({names})")  # noqa: S608
