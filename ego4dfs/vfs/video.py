"""Video: an open video of the tree and its index, read without read-ahead."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ego4dfs.errors import MediaError, ObjectChanged
from ego4dfs.media import Cut, MediaIndex, cut, outside, read_index
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

    def cut(self, start_s: float, end_s: float) -> Cut:
        """Cut the window [start_s, end_s) out of it.

        Raises ValueError if it is no window, starts after the end of the video, ends by more than
        AFTER_END_S after it, or has no picture.
        """
        reason = outside(self.index, start_s, end_s)
        if reason:
            raise ValueError(f"{start_s} s to {end_s} s: {reason}")
        return cut(self.index, start_s, end_s)

    def request(self, ranges: Iterable[range]) -> bool:
        """Request these bytes all at once, without waiting; False if there was no memory for all.

        What is cached is not requested, and nothing if the video is read from a copy on disk.
        """
        ref = self.handle.ref
        if ref is None or self.handle.copy is not None:
            return True
        return self.vfs.session.reader.request_parts(ref, ranges)


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
