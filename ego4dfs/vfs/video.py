"""Video: an open video of the tree and its index, read without read-ahead."""

from __future__ import annotations

from dataclasses import dataclass

from ego4dfs.errors import MediaError, ObjectChanged
from ego4dfs.media import MediaIndex, read_index
from ego4dfs.reader import ExactWindow
from ego4dfs.vfs.values import Handle
from ego4dfs.vfs.vfs import VFS


@dataclass(frozen=True, slots=True)
class Video:
    """One version of a video that is open. Safe from several threads."""

    vfs: VFS
    handle: Handle
    index: MediaIndex

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes of [offset, offset + length) that exist. Raises as `VFS.read` does."""
        return self.vfs.read(self.handle, offset, length)


def open_video(vfs: VFS, path: str) -> Video:
    """Open a video and read its index.

    Raises MediaError, which begins with the path, if it has no index that can be used, and what
    `VFS.open` and `VFS.read` raise.
    """
    try:
        return _open(vfs, path)
    except ObjectChanged:  # or its size was wrong; the facts are right now
        return _open(vfs, path)


def _open(vfs: VFS, path: str) -> Video:
    handle = vfs.open(path, first_offset=0)
    handle.window = ExactWindow()
    try:
        index = read_index(handle.size, lambda *place: vfs.read(handle, *place))
    except MediaError as error:
        raise MediaError(f"{path} has no usable index: {error}") from error
    if handle.ref is not None:
        ref = handle.ref
        vfs.session.facts.media.record(ref.url, ref.size, ref.etag, index)
    return Video(vfs, handle, index)
