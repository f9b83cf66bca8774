"""The VFS: the contract of the tree, and how few requests it costs."""

from __future__ import annotations

import errno
import tracemalloc

import pytest

from ego4dfs.blocks import BLOCK_SIZE
from ego4dfs.errors import AccessDenied, Ego4DError, NotFound
from ego4dfs.vfs import VFS
from kit.contract import DATASETS, PathStatus, Published, TreeContract
from kit.data import seeded


class Calls:
    """The calls of the VFS; its errors as the errnos that all faces use."""

    def __init__(self, vfs: VFS) -> None:
        self._vfs = vfs

    def stat(self, path: str) -> PathStatus:
        found = self._try(self._vfs.stat, path)
        return PathStatus(found.is_dir, found.size, found.mtime_ns)

    def listdir(self, path: str) -> list[str]:
        return [entry.name for entry in self._try(self._vfs.listdir, path)]

    def read(self, path: str, offset: int, size: int) -> bytes:
        return self._vfs.read(self._try(self._vfs.open, path), offset, size)

    def write(self, path: str) -> None:
        """Fail: the VFS has no call to write, and its faces refuse it."""
        assert not [name for name in dir(self._vfs) if "write" in name or "create" in name]
        raise OSError(errno.EROFS, "no such call", path)

    def _try(self, call, path: str):
        try:
            return call(path)
        except Ego4DError as error:
            numbers = {NotFound: errno.ENOENT, AccessDenied: errno.EACCES}
            raise OSError(numbers[type(error)], path) from error


@pytest.fixture
def face(open_tree, published: Published) -> Calls:
    return Calls(
        open_tree(version=published.version, datasets=DATASETS, endpoint_url=published.endpoint_url)
    )


class TestVFS(TreeContract):
    pass


def test_a_read_copies_its_bytes_once_at_most(open_tree, release):
    """For workers that read whole clips each copy in memory takes time."""
    data = seeded("copies", 20 * BLOCK_SIZE)
    release.dataset("clips", {"large.mp4": data})
    vfs = open_tree(version=release.version, datasets=["clips"], metadata=False)
    handle = vfs.open(f"{release.version}/clips/large.mp4")
    assert vfs.read(handle, 0, len(data)) == data
    tracemalloc.start()
    try:
        again = vfs.read(handle, 0, len(data))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert again == data
    assert peak < 2.5 * len(data)
