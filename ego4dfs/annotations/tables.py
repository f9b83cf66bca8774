"""Windows of tables: CSV and JSON Lines with the columns video_uid, start_s and end_s.

`clip_uid` may be in place of video_uid; the times are then those of the clip. A video_uid may also
be that of a clip. `text` is optional.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from ego4dfs.annotations.rows import NOWHERE, BadRow, Record, Row, Span, checked
from ego4dfs.errors import ConfigError
from ego4dfs.manifest import read_rows

UID_COLUMNS = ("video_uid", "clip_uid")
_TIMES = ("start_s", "end_s")


def csv_windows(lines: Iterable[str]) -> Iterator[Row]:
    """Yield the windows of a CSV. Raises ConfigError if its first row is not a header.

    A row with more cells than the header is a BadRow: decimal commas move the times.
    """
    rows = read_rows(lines)
    header = next((row.fields for row in rows if any(row.fields)), [])
    names = [name.strip() for name in header]
    missing = [name for name in _TIMES if name not in names]
    if missing or not any(name in names for name in UID_COLUMNS):
        raise ConfigError(
            f"its first row has no column {(missing or UID_COLUMNS)[0]}",
            hint="begin the file with the line video_uid,start_s,end_s",
        )
    for row in rows:
        if any(row.fields):
            # A short row has empty cells.
            cells = [*row.fields, *[""] * (len(names) - len(row.fields))]
            record = dict(zip(names, cells, strict=False))
            if any(cells[len(names) :]):
                reason = f"it has {len(cells)} cells, and the header has {len(names)}"
                yield BadRow(f"row {row.number}", reason, record)
            else:
                yield table_row(f"row {row.number}", record)


def json_lines(lines: Iterable[str]) -> Iterator[Row]:
    """Yield the windows of JSON Lines: one object in each line."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _json_line(f"line {number}", line)


def _json_line(row: str, line: str) -> Row:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return BadRow(row, "it is not JSON")
    return table_row(row, found if isinstance(found, dict) else {})


def table_row(row: str, cells: Record) -> Row:
    """Return the window of a row of a table."""
    times: tuple[Any, ...] = tuple(cells.get(name) for name in _TIMES)
    clip_uid = cells.get("clip_uid")
    if clip_uid:
        return checked(row, cells, NOWHERE, Span(clip_uid, *times), cells.get("text"))
    return checked(row, cells, Span(cells.get("video_uid"), *times), text=cells.get("text"))
