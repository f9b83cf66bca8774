"""`manifest.ver`: what the official tool believes of a dataset's directory, read and written.

A CSV file `uid,version,filename` with CRLF, one row for each file, by the manifest's uid. The
official tool compares the version with the S3 object's, exactly.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ego4dfs.prefetch.layout import write_whole

NAME = "manifest.ver"
_FIELDS = ("uid", "version", "filename")


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the object's version, empty where its bucket keeps none."""

    version: str
    filename: str


class VersionFile:
    """The rows of one manifest.ver by uid; of several rows of a uid the first counts, as there."""

    def __init__(self, directory: Path) -> None:
        """Read the file if there is one; one that cannot be understood counts as empty."""
        self._path = directory / NAME
        self._rows: dict[str, Row] = {}
        self._changed = False
        try:
            text = self._path.read_text(encoding="utf-8-sig", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return
        for row in csv.DictReader(io.StringIO(text, newline="")):
            uid = row.get("uid")
            if uid:
                known = Row(row.get("version") or "", row.get("filename") or "")
                self._rows.setdefault(uid, known)

    def get(self, uid: str, name: str) -> Row | None:
        """Return the row of a uid, unless it is about a file of another name."""
        row = self._rows.get(uid)
        return row if row is not None and row.filename in ("", name) else None

    def put(self, uid: str, version: str, name: str) -> None:
        """Note that the file of `uid` is that version now."""
        row = Row(version, name)
        if uid and self._rows.get(uid) != row:
            self._rows[uid] = row
            self._changed = True

    def update(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Note several files given as (uid, version, name), the first of each uid."""
        first: dict[str, tuple[str, str]] = {}
        for uid, version, name in rows:
            first.setdefault(uid, (version, name))
        for uid, (version, name) in first.items():
            self.put(uid, version, name)

    def save(self) -> bool:
        """Write the file if anything changed, complete or not at all; tell whether it was."""
        if not self._changed:
            return False
        write_whole(self._path, _text(self._rows).encode())
        self._changed = False
        return True


def _text(rows: Mapping[str, Row]) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(_FIELDS)
    for uid, row in rows.items():
        # For an object without versions the official tool expects None, and reads the "" that it
        # writes itself as another version: all is fetched again. Its csv.DictReader gives None
        # for a field that is not there.
        writer.writerow((uid, row.version, row.filename) if row.version else (uid,))
    return out.getvalue()
