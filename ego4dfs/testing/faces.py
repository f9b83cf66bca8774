"""Faces under test: VFS, mount and fsspec filesystem, each with the calls that the tests use.

All calls raise OSError with the errno that a program would see. All paths are relative to the root
of the tree, which is "".
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ego4dfs.filesystem import Ego4DFileSystem
from ego4dfs.testing.open_files import (
    Descriptor,
    FsspecFile,
    OpenFile,
    VFSFile,
    as_os_errors,
    pread_all,
)
from ego4dfs.vfs import VFS


@dataclass(frozen=True)
class PathStatus:
    """What a face reports about a path; `size` is for files only, and None if it is unknown."""

    is_dir: bool
    size: int | None
    mtime_ns: int


class Face(Protocol):
    """The calls that TreeContract checks."""

    def stat(self, path: str) -> PathStatus:
        """Return the attributes of a path."""

    def listdir(self, path: str) -> list[str]:
        """Return the names in a directory."""

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Open a file, read the bytes of [offset, offset + size) that exist, and close it."""

    def write(self, path: str) -> None:
        """Write to a file, or make it; every face refuses that."""


class OpeningFace(Face, Protocol):
    """A face whose open files are checked, too: TreeMachine needs it."""

    def open(self, path: str) -> OpenFile:
        """Open a file for reading."""


class VFSFace:
    """The calls of a VFS; its errors are OSErrors with the errnos of all faces."""

    def __init__(self, vfs: VFS) -> None:
        """Call `vfs`."""
        self._vfs = vfs

    def stat(self, path: str) -> PathStatus:
        """See Face."""
        with as_os_errors(path):
            found = self._vfs.stat(path)
        return PathStatus(found.is_dir, found.size if found.is_known else None, found.mtime_ns)

    def listdir(self, path: str) -> list[str]:
        """See Face."""
        with as_os_errors(path):
            return [entry.name for entry in self._vfs.listdir(path)]

    def read(self, path: str, offset: int, size: int) -> bytes:
        """See Face."""
        with as_os_errors(path):
            return self._vfs.read(self._vfs.open(path), offset, size)

    def write(self, path: str) -> None:
        """Raise EROFS: the VFS has no call to write, and its faces refuse it."""
        assert not [name for name in dir(self._vfs) if "write" in name or "create" in name]
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    def open(self, path: str) -> OpenFile:
        """See OpeningFace."""
        return VFSFile(self._vfs, path)


class DirectoryFace:
    """System calls on a directory, such as a mount, without Python's buffers."""

    def __init__(self, root: Path) -> None:
        """Call the filesystem that `root` is on."""
        self._root = root

    def stat(self, path: str) -> PathStatus:
        """See Face."""
        found = (self._root / path).stat()
        return PathStatus((self._root / path).is_dir(), found.st_size, found.st_mtime_ns)

    def listdir(self, path: str) -> list[str]:
        """See Face."""
        return [entry.name for entry in (self._root / path).iterdir()]

    def read(self, path: str, offset: int, size: int) -> bytes:
        """See Face."""
        fd = os.open(self._root / path, os.O_RDONLY)
        try:
            return pread_all(fd, size, offset)
        finally:
            os.close(fd)

    def write(self, path: str) -> None:
        """See Face."""
        os.close(os.open(self._root / path, os.O_WRONLY | os.O_CREAT, 0o600))

    def open(self, path: str) -> OpenFile:
        """See OpeningFace."""
        return Descriptor(self._root / path)


class FsspecFace:
    """The calls of fsspec's users."""

    def __init__(self, fs: Ego4DFileSystem) -> None:
        """Call `fs`."""
        self._fs = fs

    def stat(self, path: str) -> PathStatus:
        """See Face."""
        info = self._fs.info(path)
        return PathStatus(info["type"] == "directory", info["size"], round(info["mtime"] * 1e9))

    def listdir(self, path: str) -> list[str]:
        """List as a disk would: in fsspec, a file lists itself."""
        if self._fs.ls(path, detail=False) == [path]:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return [name.rpartition("/")[2] for name in self._fs.ls(path, detail=False)]

    def read(self, path: str, offset: int, size: int) -> bytes:
        """See Face."""
        with self._fs.open(path) as file:
            file.seek(offset)
            data: bytes = file.read(size)
        return data

    def write(self, path: str) -> None:
        """See Face."""
        self._fs.pipe_file(path, b"x")

    def open(self, path: str) -> OpenFile:
        """See OpeningFace."""
        return FsspecFile(self._fs.open(path))
