"""A CSV reader that tolerates damaged quotes.

Pure: no disk, no network. The time is linear in the length of any text.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_RECORD_CHARACTERS = 16 << 20
"""The longest record of several lines, and the longest field."""
_REREAD_CHARACTERS = 16 << 20
_LINES_AFTERWARDS = 8
"""After `_REREAD_CHARACTERS` were read again because of damaged quotes, a record has at most 8
lines. Otherwise a text in which each line opens a quote is read to its end once for each line."""

# Python's default limit, 128 KiB, is set for the whole process; it is raised, never lowered.
csv.field_size_limit(max(csv.field_size_limit(), _RECORD_CHARACTERS))


class CsvRow(NamedTuple):
    """One row of the file, unchanged; `is_damaged` if its quotes do not match.

    Rows are numbered from 1, the header, as in a spreadsheet.
    """

    number: int
    fields: list[str]
    is_damaged: bool


class _Lines:
    """The lines of a text; the lines of the current record can be read again."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._again: deque[str] = deque()
        self._reread = 0
        self.record: list[str] = []
        """The lines of the current record; `read_rows` clears it."""
        self._characters = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self.record and self._is_too_long():
            raise StopIteration
        line = self._again.popleft() if self._again else next(self._lines)
        self.record.append(line)
        return line

    def _is_too_long(self) -> bool:
        if len(self.record) == 1:
            self._characters = 0
        self._characters += len(self.record[-1])
        if self._reread > _REREAD_CHARACTERS and len(self.record) >= _LINES_AFTERWARDS:
            return True
        return self._characters > _RECORD_CHARACTERS

    def damaged_line(self) -> str:
        """Return the first line of the record, and continue at the line after it."""
        first, *others = self.record
        self._reread += sum(map(len, others))
        self._again.extendleft(reversed(others))
        self.record.clear()
        return first


def read_rows(lines: Iterable[str]) -> Iterator[CsvRow]:
    """Yield the rows of a CSV text, given as lines with their line ends.

    A quote that is never closed would absorb all later rows, or join two rows. So a record that
    violates the quoting rules, or that has several lines and not as many fields as the header, is
    read as one damaged line, and reading continues at the next line.
    """
    source = _Lines(lines)
    record = source.record
    row = width = 0
    while True:
        try:
            for fields in csv.reader(source, strict=True):
                if len(record) > 1 and width and len(fields) != width:
                    break
                record.clear()
                row += 1
                width = width or len(fields)
                yield CsvRow(row, fields, is_damaged=False)
        except csv.Error:
            pass
        if not record:
            return
        row += 1
        fields = _damaged_fields(source.damaged_line(), width)
        width = width or len(fields)
        yield CsvRow(row, fields, is_damaged=True)


def _damaged_fields(line: str, width: int) -> list[str]:
    """Return the fields as a lenient CSV reader parses them, or without any quotes."""
    try:
        fields = next(csv.reader([line]), [])
    except csv.Error:
        fields = []
    return fields if fields and len(fields) == width else line.replace('"', "").split(",")
