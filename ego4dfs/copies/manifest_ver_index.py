"""Rows of the manifest.ver files below one directory of copies, looked up by a file's path.

Files are read through descriptors that are open already, so that a mount over them hides nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from ego4dfs.copies.directory_fds import Directories
from ego4dfs.copies.manifest_ver import Row, Rows, parse
from ego4dfs.datasets import MANIFEST, MANIFEST_VER
from ego4dfs.errors import ManifestError
from ego4dfs.manifest import parse as parse_manifest

_DEPTH = 2  # v2/components/videos
_SAVED_AFTER_NS = 2 * 10**9

Read = Callable[[str], tuple[bytes, os.stat_result]]


class RowsByPath:
    """All rows below one directory, each file read when it is first needed.

    Safe from several threads: at worst a file is read twice.
    """

    def __init__(
        self, directories: Directories, read: Read, on_damage: Callable[[str, str], None]
    ) -> None:
        """Read files by `read`, which raises OSError; report a damaged one to `on_damage`."""
        self._directories = directories
        self._read = read
        self._on_damage = on_damage
        self._rows: dict[str, tuple[Rows, int]] = {}
        self._uids: dict[str, Mapping[str, str]] = {}
        self._by_uid: dict[str, dict[str, list[tuple[str, Row]]]] = {}

    def own(self, path: str) -> Row | None:
        """Return the row of a file in its own directory."""
        directory, _, name = path.rpartition("/")
        rows, _ = self._load(directory)
        return rows.get(self._uid(directory, name), name) if rows.all() else None

    def elsewhere(self, path: str) -> list[Row]:
        """Return the rows of a file in the directories of other datasets."""
        directory, _, name = path.rpartition("/")
        rows = self._rows_of_uid(path)
        return [row for place, row in rows if place != directory and row.filename == name]

    def recorded(self, path: str, mtime_ns: int) -> Row | None:
        """Return a row which shows that the official tool completed a file of this time.

        Of two datasets in one run that have files of one uid, only the last row of the uid is
        left; it shows that the run got past the other file too. None if the file was changed
        after its row was saved.
        """
        directory, _, name = path.rpartition("/")
        own = self.own(path)
        found = [(directory, own)] if own is not None else self._rows_of_uid(path)
        for place, row in sorted(found, key=lambda pair: pair[1].filename != name):
            if mtime_ns <= self._load(place)[1] + _SAVED_AFTER_NS:
                is_same = row.filename in ("", name)
                return row if is_same else row._replace(version="", filename=name)
        return None

    def _rows_of_uid(self, path: str) -> list[tuple[str, Row]]:
        """Return all rows of a file's uid, for any file name, with the directory of each."""
        directory, _, name = path.rpartition("/")
        version, _, dataset = directory.partition("/")
        uid = self._uid(directory, name) if dataset else ""
        if not uid:
            return []
        if version not in self._by_uid:
            by_uid: dict[str, list[tuple[str, Row]]] = {}
            for place in self._below(version, _DEPTH):
                for row in self._load(place)[0].all():
                    by_uid.setdefault(row.uid, []).append((place, row))
            self._by_uid[version] = by_uid
        return self._by_uid[version].get(uid, [])

    def _below(self, directory: str, depth: int) -> Iterator[str]:
        for path in self._directories.subdirectories(directory):
            yield path
            if depth > 1:
                yield from self._below(path, depth - 1)

    def _uid(self, directory: str, name: str) -> str:
        """Return the uid of a file by the manifest.csv beside it; without one its stem."""
        if directory not in self._uids:
            self._uids[directory] = self._read_uids(directory)
        return self._uids[directory].get(name, name.partition(".")[0])

    def _read_uids(self, directory: str) -> Mapping[str, str]:
        try:
            manifest = parse_manifest(self._read(f"{directory}/{MANIFEST}")[0], directory)
        except (OSError, ManifestError):
            return {}
        return {entry.name: entry.uid for entry in manifest.entries}

    def _load(self, directory: str) -> tuple[Rows, int]:
        """Return a directory's rows, and when they were saved."""
        if directory not in self._rows:
            self._rows[directory] = self._read_rows(directory)
        return self._rows[directory]

    def _read_rows(self, directory: str) -> tuple[Rows, int]:
        path = f"{directory}/{MANIFEST_VER}"
        warn = partial(self._on_damage, path)
        try:
            content, status = self._read(path)
        except (FileNotFoundError, NotADirectoryError):
            return Rows(), 0
        except OSError as error:
            warn((error.strerror or str(error)).lower())
            return Rows(), 0
        rows, damage = parse(content)
        if damage:
            warn(damage)
        return Rows(rows), status.st_mtime_ns
