"""Rows of the manifest.ver files below one directory of copies, looked up by a file's path.

Files are read through descriptors that are open already, so a mount over them does not hide them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial

from ego4dfs.copies.directory_fds import Directories
from ego4dfs.copies.manifest_ver import Row, Rows, parse
from ego4dfs.datasets import MANIFEST, MANIFEST_VER
from ego4dfs.errors import ManifestError, os_error_text
from ego4dfs.manifest import parse as parse_manifest

_DEPTH = 2  # v2/components/videos
_NO_FILE, _UNREADABLE = 0, 1  # in place of the time of a manifest.ver

Read = Callable[[str], tuple[bytes, os.stat_result]]


class RowsByPath:
    """All rows below one directory; each file is read when it is first needed.

    Safe from several threads; two of them may read the same file.
    """

    def __init__(
        self,
        directories: Directories,
        read: Read,
        on_damage: Callable[[str, str], None],
        prefetched: Collection[str] = (),
    ) -> None:
        """Read files by `read`, which raises OSError; report a damaged one to `on_damage`.

        `prefetched` are the directories in which ego4dfs has recorded files.
        """
        self._directories = directories
        self._read = read
        self._on_damage = on_damage
        self._prefetched = prefetched
        self._rows: dict[str, tuple[Rows, int]] = {}
        self._uids: dict[str, Mapping[str, str]] = {}
        self._by_uid: dict[str, dict[str, list[tuple[str, Row]]]] = {}

    def own(self, path: str) -> Row | None:
        """Return the row of a file in its own directory."""
        directory, _, name = path.rpartition("/")
        rows, _ = self._load(directory)
        if not rows.all():
            return None
        uids = self._uids_in(directory)
        if name in uids:
            return rows.get(uids[name], name)
        return rows.get("", name) or rows.get(_stem(name), name)

    def elsewhere(self, path: str) -> list[Row]:
        """Return the rows of a file in the directories of other datasets."""
        directory, _, name = path.rpartition("/")
        rows = self._rows_of_uid(path)
        return [row for other, row in rows if other != directory and row.filename == name]

    def recorded(self, path: str, mtime_ns: int) -> Row | None:
        """Return a row which shows that the official tool completed a file of this time.

        None if the file was changed after its row was saved. If one run fetched two datasets that
        have files with the same uid, only the last row of that uid remains. So a row about another
        file is returned too, without its version, if the run that saved it wrote this file.
        """
        directory, _, name = path.rpartition("/")
        own = self.own(path)
        if own is not None:
            return own if own.is_saved_after(mtime_ns) else None
        found = self._rows_of_uid(path)
        for other, row in found:
            if self._is_about(row, other, path) and row.is_saved_after(mtime_ns):
                return row
        for other, row in found:
            if self._is_of_the_same_run(directory, other, mtime_ns):
                return row._replace(version="", filename=name)
        return None

    def _is_about(self, row: Row, other: str, path: str) -> bool:
        """Return whether a row of another directory names this file, and not one in that."""
        directory, _, name = path.rpartition("/")
        return row.filename == name and other != directory and not self._mtime_ns(other, name)

    def _is_of_the_same_run(self, directory: str, other: str, mtime_ns: int) -> bool:
        """Return whether the run that saved the manifest.ver of `other` wrote a file.

        A run of the official tool begins by writing manifest.csv, and ends by writing manifest.ver
        into one directory only. It gives a file its name once the file is complete.
        """
        if other in self._prefetched or (other != directory and self._load(directory)[1]):
            return False
        begun_ns = self._mtime_ns(other, MANIFEST)
        return bool(begun_ns) and begun_ns <= mtime_ns <= self._load(other)[1]

    def _mtime_ns(self, directory: str, name: str) -> int:
        """Return the time of a regular file; 0 if there is none."""
        try:
            found = os.stat(name, dir_fd=self._directories.below(directory), follow_symlinks=False)
        except OSError:
            return 0
        return found.st_mtime_ns if stat.S_ISREG(found.st_mode) else 0

    def _rows_of_uid(self, path: str) -> list[tuple[str, Row]]:
        """Return all rows of a file's uid, for any file name, with the directory of each."""
        directory, _, name = path.rpartition("/")
        version, _, dataset = directory.partition("/")
        uid = self._uid(directory, name) if dataset else ""
        if not uid:
            return []
        if version not in self._by_uid:
            by_uid: dict[str, list[tuple[str, Row]]] = {}
            for below in self._below(version, _DEPTH):
                for row in self._load(below)[0].all():
                    by_uid.setdefault(row.uid, []).append((below, row))
            self._by_uid[version] = by_uid
        return self._by_uid[version].get(uid, [])

    def _below(self, directory: str, depth: int) -> Iterator[str]:
        for path in self._directories.subdirectories(directory):
            yield path
            if depth > 1:
                yield from self._below(path, depth - 1)

    def _uid(self, directory: str, name: str) -> str:
        """Return the uid of a file by the manifest.csv beside it; without one its stem."""
        return self._uids_in(directory).get(name, _stem(name))

    def _uids_in(self, directory: str) -> Mapping[str, str]:
        """Return the uids of files by the manifest.csv in a directory."""
        if directory not in self._uids:
            self._uids[directory] = self._read_uids(directory)
        return self._uids[directory]

    def _read_uids(self, directory: str) -> Mapping[str, str]:
        try:
            manifest = parse_manifest(self._read(f"{directory}/{MANIFEST}")[0], directory)
        except (OSError, ManifestError):
            return {}
        return {entry.name: entry.uid for entry in manifest.entries}

    def _load(self, directory: str) -> tuple[Rows, int]:
        """Return a directory's rows, and when they were saved; 0 if there is no manifest.ver."""
        if directory not in self._rows:
            self._rows[directory] = self._read_rows(directory)
        return self._rows[directory]

    def _read_rows(self, directory: str) -> tuple[Rows, int]:
        path = f"{directory}/{MANIFEST_VER}"
        warn = partial(self._on_damage, path)
        try:
            content, status = self._read(path)
        except (FileNotFoundError, NotADirectoryError):
            return Rows(), _NO_FILE
        except OSError as error:
            warn(os_error_text(error))
            return Rows(), _UNREADABLE
        rows, damage = parse(content, status.st_mtime_ns)
        if damage:
            warn(damage)
        return Rows(rows), status.st_mtime_ns


def _stem(name: str) -> str:
    """Return the name up to its first dot: the uid, if no manifest has another one."""
    return name.partition(".")[0]
