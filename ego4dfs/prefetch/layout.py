"""Where copies lie: the tree of the official tool, below one directory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ego4dfs import datasets
from ego4dfs.errors import OutputError

STATE_DIRECTORY = ".ego4dfs"
METADATA = "ego4d.json"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one version below `root`; relative ones are texts with slashes.

    <root>/ego4d.json · <root>/<v1|v2>/ego4d.json · <root>/<v1|v2>/<dataset>/<name>
    <root>/.ego4dfs/     our own journal, private
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
        """Return the directory of a dataset; without a name that of the version."""
        return self.root / self.relative_directory(dataset)

    def relative_directory(self, dataset: str) -> str:
        """Return the directory of a dataset below the root."""
        return f"{self.version_name}/{dataset}" if dataset else self.version_name

    def relative(self, dataset: str, name: str) -> str:
        """Return the path of a dataset's file below the root."""
        return f"{self.relative_directory(dataset)}/{name}"

    def prepare(self, names: tuple[str, ...]) -> None:
        """Create the directories. Raises OutputError."""
        try:
            for name in names:
                self.dataset(name).mkdir(parents=True, exist_ok=True)
            self.root.mkdir(parents=True, exist_ok=True)
            self.state.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise unusable(error, self.root) from error

    def free_bytes(self) -> int:
        """Return the bytes that may still be written below the root, which need not exist yet."""
        path = self.root
        while not path.exists() and path != path.parent:
            path = path.parent
        try:
            disk = os.statvfs(path)
        except OSError as error:
            raise unusable(error, path) from error
        return disk.f_bavail * disk.f_frsize


def write_whole(path: Path, content: bytes, *, mtime_ns: int = 0) -> None:
    """Write a file that appears under its name only once it is on the disk, or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if mtime_ns:
            os.utime(partial, ns=(mtime_ns, mtime_ns))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def unusable(error: OSError, path: Path) -> OutputError:
    """Return the error that says why copies cannot be written at `path`."""
    where = error.filename or path
    return OutputError(
        f"{where}: {(error.strerror or str(error)).lower()}",
        hint="make room, or name another directory with -o" if error.errno == 28 else "",
    )
