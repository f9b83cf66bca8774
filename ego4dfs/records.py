"""The records of a CSV text, those with damaged quotes too.

Pure: no disk, no network.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import NamedTuple


class Record(NamedTuple):
    """One row as the file has it; `is_damaged` when its quotes do not fit together."""

    row: int
    fields: list[str]
    is_damaged: bool


def records_of(text: str) -> Iterator[Record]:
    """Yield the records, rows counted as a spreadsheet counts them.

    A quote that is never closed would swallow all rows behind it, or make one of two. So a record
    that breaks the rules of quoting, or that has several lines and does not fit the header, is
    taken as one damaged line, and reading goes on after that.
    """
    lines = io.StringIO(text, newline="").readlines()
    first, row, width = 0, 0, 0
    while first < len(lines):
        reader = csv.reader(lines[first:], strict=True)
        start = 0
        try:
            for fields in reader:
                if reader.line_num - start > 1 and width and len(fields) != width:
                    break
                start, row = reader.line_num, row + 1
                width = width or len(fields)
                yield Record(row, fields, is_damaged=False)
            else:
                return
        except csv.Error:
            pass
        row += 1
        fields = _damaged_fields(lines[first + start], width)
        width = width or len(fields)
        yield Record(row, fields, is_damaged=True)
        first += start + 1


def _damaged_fields(line: str, width: int) -> list[str]:
    """Return the fields of a line as lenient readers see them, or as if no quote were there."""
    try:
        fields = next(csv.reader([line]), [])
    except csv.Error:
        fields = []
    return fields if fields and len(fields) == width else line.replace('"', "").split(",")
