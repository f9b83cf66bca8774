"""The fsspec face: the contract of the tree, and what fsspec's users call."""

from __future__ import annotations

import errno

import fsspec
import pytest

from ego4dfs.filesystem import Ego4DFileSystem
from kit.contract import DATASETS, PathStatus, Published, TreeContract


class Fsspec:
    """The calls of fsspec's users."""

    def __init__(self, fs: Ego4DFileSystem) -> None:
        self._fs = fs

    def stat(self, path: str) -> PathStatus:
        info = self._fs.info(path)
        return PathStatus(info["type"] == "directory", info["size"], round(info["mtime"] * 1e9))

    def listdir(self, path: str) -> list[str]:
        """List as a disk would: in fsspec, a file lists itself."""
        if self._fs.ls(path, detail=False) == [path]:
            raise NotADirectoryError(errno.ENOTDIR, "a file", path)
        return [name.rpartition("/")[2] for name in self._fs.ls(path, detail=False)]

    def read(self, path: str, offset: int, size: int) -> bytes:
        with self._fs.open(path) as file:
            file.seek(offset)
            return file.read(size)

    def write(self, path: str) -> None:
        self._fs.pipe_file(path, b"x")


@pytest.fixture
def face(licensee, published: Published):
    fs = fsspec.filesystem(
        "ego4d",
        version=published.version,
        datasets=list(DATASETS),
        endpoint_url=published.endpoint_url,
        skip_instance_cache=True,
    )
    yield Fsspec(fs)
    fs.close()


class TestFilesystem(TreeContract):
    pass
