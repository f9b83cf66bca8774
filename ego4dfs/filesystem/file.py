"""Ego4DFile: an open file of the fsspec filesystem, read through the VFS."""

from __future__ import annotations

from typing import Any

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from ego4dfs.blocks import BLOCK_SIZE
from ego4dfs.filesystem.os_errors import as_os_errors
from ego4dfs.vfs import Handle


class Ego4DFile(AbstractBufferedFile):  # type: ignore[misc]
    """An open file. It has no buffer: the VFS has the cache and the read-ahead."""

    def __init__(self, fs: AbstractFileSystem, path: str, handle: Handle) -> None:
        """Read `handle` of the VFS of `fs`."""
        self._handle = handle
        super().__init__(fs, path, "rb", block_size=BLOCK_SIZE, cache_type="none", size=handle.size)

    def readinto(self, b: Any) -> int:
        """Read into a buffer without copying, and return the number of bytes."""
        view = memoryview(b).cast("B")
        with as_os_errors(self.path):
            count: int = self.fs.vfs.read_into(self._handle, self.loc, view)
        self.loc += count
        return count

    def _fetch_range(self, start: int, end: int) -> bytes:
        with as_os_errors(self.path):
            data: bytes = self.fs.vfs.read(self._handle, start, end - start)
        return data
