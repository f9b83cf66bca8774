"""The rows of a `manifest.ver`, the official tool's record of what it fetched, damaged ones too.

Pure: no disk, no network.
"""

from __future__ import annotations

import io
import re
from typing import NamedTuple

from ego4dfs.manifest import CsvRow, read_rows

FIELDS = ("uid", "version", "filename")
_NO_TEXT = re.compile("[\0\udc80-\udcff]")  # NUL, and bytes that are not UTF-8
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class VersionRow(NamedTuple):
    """One row; the version is None where the row ends before it."""

    uid: str
    version: str | None
    filename: str


def parse_versions(content: bytes) -> tuple[list[VersionRow], str]:
    """Return the rows that can be read, and what is wrong with the file, or ''.

    A row that holds bytes that are no text, more fields than the header, or a quote that is not
    closed says nothing for certain, and is left out.
    """
    problems: list[str] = []
    is_utf16 = content.startswith(_UTF16)
    if is_utf16:
        problems.append("it is UTF-16")
    if is_utf16:
        text = content.decode("utf-16", errors="replace")
    else:
        text = content.decode("utf-8-sig", errors="surrogateescape")
    rows: list[VersionRow] = []
    bad, columns = 0, list(FIELDS)
    for record in read_rows(io.StringIO(text, newline="")):
        if record.number == 1 and _is_header(record):
            columns = record.fields
        elif not any(record.fields):
            continue  # an empty line
        elif record.is_damaged or _is_odd(record, columns):
            bad += 1
        else:
            row = dict(zip(columns, record.fields, strict=False))
            rows.append(VersionRow(row["uid"], row.get("version"), row.get("filename") or ""))
    if bad:
        problems.append(f"{bad} of its rows cannot be read")
    return rows, ", ".join(problems)


def _is_header(record: CsvRow) -> bool:
    return not record.is_damaged and {"uid", "version"} <= set(record.fields)


def _is_odd(record: CsvRow, columns: list[str]) -> bool:
    return len(record.fields) > len(columns) or any(map(_NO_TEXT.search, record.fields))
