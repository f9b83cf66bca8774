"""`manifest.ver`: what the official tool believes of a dataset's directory, read and written.

A CSV file `uid,version,filename` with CRLF, one row for each file, by the manifest's uid. The
official tool compare_bytes the version with the S3 object's, exactly.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ego4dfs.copies.version_rows import parse_versions
from ego4dfs.datasets import MANIFEST_VER
from ego4dfs.files import Folder, read_regular

log = logging.getLogger(__name__)

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
        """Read the file if there is one; of a damaged one, what can be read.

        What is wrong with it is logged, once for each file.
        """
        self._path = directory / MANIFEST_VER
        self._rows: dict[str, Row] = {}
        self._damage, self._changed = "", False
        try:
            rows, self._damage = parse_versions(read_regular(self._path)[0])
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            self._damage = (error.strerror or str(error)).lower()
            rows = []
        for row in rows:
            if row.uid:
                self._rows.setdefault(row.uid, Row(row.version, row.filename))
        self._changed = bool(self._damage)
        if self._damage:
            _report(self._path, self._damage)

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

        `folder` is its directory, where that is open. A damaged file is kept under another name:
        it is not ours.
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
        log.warning("%s was damaged: it is now %s", self._path, aside)
        self._damage = ""


@lru_cache(maxsize=1024)
def _report(path: Path, damage: str) -> None:
    log.warning("%s is damaged: %s; the rest of it is used", path, damage)


def _text(rows: Mapping[str, Row]) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(_FIELDS)
    for uid, row in rows.items():
        writer.writerow((uid,) if row.version is None else (uid, row.version, row.filename))
    return out.getvalue()
