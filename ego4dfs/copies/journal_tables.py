"""The tables of the journal, and which of their rows are valid: a user may have edited them."""

from __future__ import annotations

import re

TABLES = {
    "files": """
        path TEXT PRIMARY KEY, url TEXT NOT NULL, source TEXT NOT NULL, release TEXT NOT NULL,
        size INTEGER NOT NULL, etag TEXT NOT NULL, version_id TEXT NOT NULL,
        mtime_ns INTEGER NOT NULL, checksum TEXT NOT NULL""",
    "downloads": """
        path TEXT PRIMARY KEY, url TEXT NOT NULL, etag TEXT NOT NULL, size INTEGER NOT NULL,
        part_name TEXT NOT NULL""",
    "ranges": """
        path TEXT NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL, boot TEXT NOT NULL,
        PRIMARY KEY (path, start)""",
    "checked": "path TEXT PRIMARY KEY, at REAL NOT NULL",
    "evidence": """
        source TEXT NOT NULL, bucket TEXT NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL,
        PRIMARY KEY (source, bucket, kind, detail)""",
    "times": "path TEXT PRIMARY KEY, mtime_ns INTEGER NOT NULL",
}
FORMER_NAMES = {"downloads": "parts", "checked": "asked"}

_MAX_BYTES = 1 << 50
_VALUES = {
    "files": f"""
        size BETWEEN 0 AND {_MAX_BYTES} AND url GLOB 's3://?*/?*'
        AND path NOT GLOB '/*' AND '/' || path || '/' NOT GLOB '*/../*'""",
    # Earlier versions kept part files beside the copies; nothing else may be renamed or removed.
    "downloads": f"""
        size BETWEEN 0 AND {_MAX_BYTES} AND part_name NOT GLOB '/*'
        AND (part_name GLOB '*.part' OR part_name GLOB '.ego4dfs/*.long')""",
    "ranges": f"start >= 0 AND stop BETWEEN start AND {_MAX_BYTES}",
    "checked": "at BETWEEN 0 AND 1e12",
}
_TYPES = {"TEXT": "'text'", "INTEGER": "'integer'", "REAL": "'real', 'integer'"}


def is_valid(table: str) -> str:
    """Return the SQL condition of the valid rows of a table.

    SQLite stores a value of any type in any column.
    """
    columns = re.findall(r"(\w+) (TEXT|INTEGER|REAL)", TABLES[table])
    types = [f"typeof({name}) IN ({_TYPES[kind]})" for name, kind in columns]
    return f"(({' AND '.join([*types, _VALUES.get(table, 'TRUE')])}) IS TRUE)"
