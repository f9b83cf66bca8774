"""Damage to SQLite databases."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def undecodable_schema(path: Path) -> None:
    """Change a byte of the schema to one that is not UTF-8, outside of its words."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = DELETE")
    content = path.read_bytes()
    at = content.index(b"CREATE TABLE ")
    path.write_bytes(content[: at + 3] + b"\xff" + content[at + 4 :])
