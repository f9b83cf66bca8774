"""The paths of copies: the tree of the official tool, below one directory."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from ego4dfs import datasets
from ego4dfs.datasets import METADATA
from ego4dfs.errors import OutputError, ProcessLimit, os_error_text
from ego4dfs.files import HIDDEN, Folder

STATE_DIRECTORY = HIDDEN

_ROOM = "make room, or name another directory with -o"
_OBSTACLE = "remove or rename it, or name another directory with -o"
_HINTS = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EROFS: "name a directory that can be written, with -o",
    errno.EACCES: "ask its owner to share it (chmod -R g+rwX), or name another one with -o",
    errno.EISDIR: _OBSTACLE,
    errno.ENOTDIR: _OBSTACLE,
    errno.ENAMETOOLONG: "name a directory with a shorter path, with -o",
    errno.ELOOP: "remove the link, make it yourself, or name another directory with -o",
}
_NO_PROCESS = "raise the limit of processes (ulimit -u), or end other programs"

_PROBE = "write-probe"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one version below `root`; relative ones are strings with slashes.

    <root>/ego4d.json · <root>/<v1|v2>/ego4d.json · <root>/<v1|v2>/<dataset>/<name>
    <root>/.ego4dfs/                  our own records
    <directory>/.ego4dfs/<name>.part  an unfinished copy, in each directory of copies
    """

    root: Path
    version: str

    @property
    def version_name(self) -> str:
        """The directory of the version: v2 and v2_1 share one."""
        return datasets.version_directory(self.version)

    @property
    def state(self) -> Path:
        """The directory of our own records."""
        return self.root / STATE_DIRECTORY

    @property
    def metadata(self) -> Path:
        """The version's own ego4d.json; the one in the root is another name of it."""
        return self.root / self.version_name / METADATA

    def dataset(self, dataset: str) -> Path:
        """Return the directory of a dataset; for an empty name, that of the version."""
        return self.root / self.relative_directory(dataset)

    def relative_directory(self, dataset: str) -> str:
        """Return the directory of a dataset below the root."""
        return f"{self.version_name}/{dataset}" if dataset else self.version_name

    def relative(self, dataset: str, name: str) -> str:
        """Return the path of a dataset's file below the root."""
        return f"{self.relative_directory(dataset)}/{name}"

    def prepare_dataset(self, dataset: str) -> None:
        """Create the directory of a dataset, and check that it can be written. Raises OSError."""
        with (
            Folder.at(self.root) as root,
            root.below(self.relative_directory(dataset), make=True) as folder,
        ):
            hidden, descriptor = folder.create_hidden(_PROBE)
            os.close(descriptor)
            hidden.remove(_PROBE)

    def prepare(self, names: tuple[str, ...]) -> None:
        """Create the directories, with the modes that the umask allows. Raises OutputError."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with Folder.at(self.root) as root:
                for path in (STATE_DIRECTORY, *map(self.relative_directory, names)):
                    root.below(path, make=True).close()
        except OSError as error:
            raise unusable(error, self.root) from error

    def free_bytes(self, relative: str = "") -> int | None:
        """Return the bytes that may still be written to a directory, which need not exist yet.

        None if the filesystem does not report it: some report a size of 0. Raises OutputError.
        """
        path = self._existing(relative)
        try:
            disk = os.statvfs(path)
        except OSError as error:
            raise unusable(error, path) from error
        return disk.f_bavail * disk.f_frsize if disk.f_blocks else None

    def device(self, relative: str = "") -> int:
        """Return the device number of a directory's disk. Raises OutputError."""
        path = self._existing(relative)
        try:
            return path.stat().st_dev
        except OSError as error:
            raise unusable(error, path) from error

    def _existing(self, relative: str) -> Path:
        """Return a directory below the root, or the nearest one above it that exists."""
        path = self.root / relative
        try:
            while not path.exists() and path != path.parent:
                path = path.parent
        except OSError as error:  # a link to a place that cannot be read, or that no path can name
            raise unusable(error, path) from error
        return path


def unusable(error: OSError, path: Path) -> OutputError:
    """Return the error that says why copies cannot be written at `path`."""
    where = error.filename or path
    hint = _NO_PROCESS if isinstance(error, ProcessLimit) else _HINTS.get(error.errno or 0, "")
    return OutputError(f"{where}: {os_error_text(error)}", hint=hint)
