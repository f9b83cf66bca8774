"""`manifest.ver`, the official tool's record of a dataset's directory: parsed, looked up, written.

A CSV file with the columns `uid,version,filename` and CRLF line ends, one row for each file, with
its uid in the manifest. The official tool compares the version with that of the S3 object, exactly.
"""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ego4dfs.datasets import MANIFEST_VER
from ego4dfs.errors import os_error_text
from ego4dfs.files import Folder, read_regular
from ego4dfs.manifest import CsvRow, read_rows

log = logging.getLogger(__name__)

_FIELDS = ("uid", "version", "filename")
_NO_TEXT = re.compile("[\0\udc80-\udcff]")  # NUL, and bytes that are not UTF-8
_LINE_END = re.compile("[\r\n]")
_TIME_PRECISION_NS = 2 * 10**9
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class Row(NamedTuple):
    """One row: a uid, the object's version, and the name of its file.

    If a bucket has no versions, the official tool writes an empty one but expects None, which its
    csv.DictReader returns for a missing field. So ego4dfs writes only the uid in such a row.
    `saved_ns` is when the row was written to disk; 0 if it was not yet, or if that is not known.
    """

    uid: str
    version: str | None
    filename: str
    saved_ns: int = 0

    @property
    def fields(self) -> tuple[str, str | None, str]:
        """What the file has of the row."""
        return self.uid, self.version, self.filename

    def is_saved_after(self, mtime_ns: int) -> bool:
        """Return whether it was saved after a file's last change: an older row is of other bytes.

        Two seconds are allowed for, because some disks store times with that precision.
        """
        return not self.saved_ns or mtime_ns <= self.saved_ns + _TIME_PRECISION_NS


class Rows:
    """Rows by uid; of several rows of a uid the first is used, as by the official tool."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        """Take these rows; those without a uid are left out."""
        self._rows: dict[str, Row] = {}
        for row in rows:
            if row.uid:
                self._rows.setdefault(row.uid, row)
        self._uids = {row.filename: uid for uid, row in reversed(self._rows.items())}

    def get(self, uid: str, name: str) -> Row | None:
        """Return the row of a uid, unless it is about a file of another name.

        Without a uid, return the row of a file name.
        """
        row = self._rows.get(uid or self._uids.get(name, ""))
        return row if row is not None and row.filename in ("", name) else None

    def all(self) -> Iterable[Row]:
        """Return all rows."""
        return self._rows.values()


def parse(content: bytes, saved_ns: int = 0) -> tuple[list[Row], str]:
    """Return the rows that can be read, and what is wrong with the file, or ''.

    `saved_ns` is the modification time of the file.

    A row with bytes that are not text, with more fields than the header, with a line end in its
    uid, or with a quote that is not closed is ambiguous, and is left out.
    """
    problems: list[str] = []
    is_utf16 = content.startswith(_UTF16)
    if is_utf16:
        problems.append("it is UTF-16")
        text = content.decode("utf-16", errors="replace")
    else:
        text = content.decode("utf-8-sig", errors="surrogateescape")
    rows: list[Row] = []
    bad, columns = 0, list(_FIELDS)
    for line in read_rows(io.StringIO(text, newline="")):
        if line.number == 1 and _is_header(line):
            columns = line.fields
        elif not any(line.fields):
            continue  # an empty line
        elif line.is_damaged or _is_malformed(line, columns):
            bad += 1
        else:
            row = _row(dict(zip(columns, line.fields, strict=False)), saved_ns)
            if _LINE_END.search(row.uid):
                bad += 1
            else:
                rows.append(row)
    if bad:
        problems.append(f"{bad} of its rows cannot be read")
    return rows, ", ".join(problems)


class VersionFile(Rows):
    """The manifest.ver of one directory."""

    def __init__(self, directory: Path) -> None:
        """Read the file if there is one, or the readable rows of a damaged one.

        Damage is logged, once for each file.
        """
        self._path = directory / MANIFEST_VER
        self._damage = ""
        rows: list[Row] = []
        try:
            content, status = read_regular(self._path)
            rows, self._damage = parse(content, status.st_mtime_ns)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            self._damage = os_error_text(error)
        super().__init__(rows)
        self._changed = bool(self._damage)
        if self._damage:
            _report(self._path, self._damage)

    def put(self, uid: str, version: str, name: str) -> None:
        """Record the version of the file of `uid`; it is empty if the bucket has no versions."""
        row = Row(uid, version, name) if version else Row(uid, None, "")
        if uid and not _LINE_END.search(uid) and not self._has(row):
            self._rows[uid] = row
            self._uids.setdefault(row.filename, uid)
            self._changed = True

    def _has(self, row: Row) -> bool:
        known = self._rows.get(row.uid)
        return known is not None and known.fields == row.fields

    def update(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Record several files given as (uid, version, name), the first of each uid."""
        first: dict[str, tuple[str, str]] = {}
        for uid, version, name in rows:
            first.setdefault(uid, (version, name))
        for uid, (version, name) in first.items():
            self.put(uid, version, name)

    def remove(self, names: Iterable[str]) -> None:
        """Remove the rows of files that were removed."""
        removed = frozenset(names)
        stems = {name.partition(".")[0] for name in removed}  # of rows without a file name
        remaining = {
            uid: row
            for uid, row in self._rows.items()
            if (row.filename not in removed if row.filename else uid not in stems)
        }
        self._changed = self._changed or len(remaining) < len(self._rows)
        self._rows = remaining

    def save(self, folder: Folder | None = None) -> bool:
        """Write the file atomically if anything changed; return whether it did.

        `folder` is its directory, if that is open already. A damaged file is renamed first.
        Raises OSError.
        """
        if not self._changed:
            return False
        if folder is None:
            with Folder.at(self._path.parent) as own:
                return self.save(own)
        if self._damage:
            self._set_aside(folder)
        folder.write_atomic(MANIFEST_VER, _text(self._rows).encode())
        self._changed = False
        return True

    def _set_aside(self, folder: Folder) -> None:
        aside = folder.set_aside(MANIFEST_VER, ".damaged")
        log.warning("%s was damaged; it was renamed to %s", self._path, aside)
        self._damage = ""


def _row(fields: Mapping[str, str], saved_ns: int) -> Row:
    """Return a row as it would be written: one without a version has no file name either."""
    uid, version = fields.get("uid", ""), fields.get("version")
    name = fields.get("filename", "") if version is not None else ""
    return Row(uid, version, name, saved_ns)


def _is_header(line: CsvRow) -> bool:
    return not line.is_damaged and {"uid", "version"} <= set(line.fields)


def _is_malformed(line: CsvRow, columns: list[str]) -> bool:
    return len(line.fields) > len(columns) or any(map(_NO_TEXT.search, line.fields))


@lru_cache(maxsize=1024)
def _report(path: Path, damage: str) -> None:
    log.warning("%s is damaged: %s; the rest of it is used", path, damage)


def _text(rows: Mapping[str, Row]) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(_FIELDS)
    for row in rows.values():
        writer.writerow(row.fields if row.version is not None else (row.uid,))
    return out.getvalue()
