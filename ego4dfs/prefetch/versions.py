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

from ego4dfs.prefetch.folder import Folder, write_whole

NAME = "manifest.ver"
_FIELDS = ("uid", "version", "filename")


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the object's version, and the name of its file.

    Where a bucket keeps no versions the official tool writes an empty one and expects None, which
    its csv.DictReader gives for a field that is not there. So a row of ours ends before it.
    """

    version: str | None
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
                known = Row(row.get("version"), row.get("filename") or "")
                self._rows.setdefault(uid, known)

    def get(self, uid: str, name: str) -> Row | None:
        """Return the row of a uid, unless it is about a file of another name."""
        row = self._rows.get(uid)
        return row if row is not None and row.filename in ("", name) else None

    def rows(self) -> Iterable[tuple[str, Row]]:
        """Return all rows with their uids."""
        return self._rows.items()

    def put(self, uid: str, version: str, name: str) -> None:
        """Note that the file of `uid` is that version now."""
        row = Row(version, name) if version else Row(None, "")
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

    def remove(self, names: Iterable[str]) -> None:
        """Drop the rows of files that are there no more."""
        gone = frozenset(names)
        stems = {name.partition(".")[0] for name in gone}  # rows without a version have no name
        kept = {
            uid: row
            for uid, row in self._rows.items()
            if (row.filename not in gone if row.filename else uid not in stems)
        }
        self._changed = self._changed or len(kept) < len(self._rows)
        self._rows = kept

    def save(self, folder: Folder | None = None) -> bool:
        """Write the file if anything changed, complete or not at all; tell whether it was.

        `folder` is its directory, where that is open.
        """
        if not self._changed:
            return False
        content = _text(self._rows).encode()
        if folder is None:
            write_whole(self._path, content)
        else:
            folder.write_whole(NAME, content)
        self._changed = False
        return True


def _text(rows: Mapping[str, Row]) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(_FIELDS)
    for uid, row in rows.items():
        writer.writerow((uid,) if row.version is None else (uid, row.version, row.filename))
    return out.getvalue()
