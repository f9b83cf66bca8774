"""The records of a CSV text, those with damaged quotes too.

Pure: no disk, no network. The time is linear in the text, whatever it holds.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_RECORD_CHARACTERS = 16 << 20
"""A record of several lines is no longer than this, nor is one field."""
_REREAD_CHARACTERS = 16 << 20
_LINES_AFTERWARDS = 8
"""Once so many characters were read again behind damaged quotes, a record has at most 8 lines:
a text of which each line opens a quote would be read to its end once for each line."""

# Python's own limit, 128 KiB, holds for the whole process; it is raised, never lowered.
csv.field_size_limit(max(csv.field_size_limit(), _RECORD_CHARACTERS))


class Record(NamedTuple):
    """One row as the file has it; `is_damaged` when its quotes do not fit together."""

    row: int
    fields: list[str]
    is_damaged: bool


class _Lines:
    """The lines of a text, of which those of the record under way can be read again."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._again: deque[str] = deque()
        self._reread = 0
        self.record: list[str] = []
        """The lines of the record under way; the reader of records clears it."""
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
        """Return the first line of the record, and go back to the one behind it."""
        first, *others = self.record
        self._reread += sum(map(len, others))
        self._again.extendleft(reversed(others))
        self.record.clear()
        return first


def records_of(lines: Iterable[str]) -> Iterator[Record]:
    """Yield the records of lines that still have their ends, rows counted as a spreadsheet does.

    A quote that is never closed would swallow all rows behind it, or make one of two. So a record
    that breaks the rules of quoting, or that has several lines and does not fit the header, is
    taken as one damaged line, and reading goes on after that.
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
                yield Record(row, fields, is_damaged=False)
        except csv.Error:
            pass
        if not record:
            return
        row += 1
        fields = _damaged_fields(source.damaged_line(), width)
        width = width or len(fields)
        yield Record(row, fields, is_damaged=True)


def _damaged_fields(line: str, width: int) -> list[str]:
    """Return the fields of a line as lenient readers see them, or as if no quote were there."""
    try:
        fields = next(csv.reader([line]), [])
    except csv.Error:
        fields = []
    return fields if fields and len(fields) == width else line.replace('"', "").split(",")
