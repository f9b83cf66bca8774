"""Video: an open video of the tree and its index, read without read-ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ego4dfs.blocks import ObjectRef
from ego4dfs.errors import MediaError, ObjectChanged
from ego4dfs.reader import ExactWindow
from ego4dfs.vfs.values import Handle

if TYPE_CHECKING:
    from ego4dfs.media import Cut, MediaIndex  # numpy takes 0.1 s
    from ego4dfs.vfs.vfs import VFS  # it uses this module

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ExactFile:
    """One version of a file that is open, read without read-ahead. Safe from several threads."""

    vfs: VFS
    handle: Handle

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes of [offset, offset + length) that exist. Raises as `VFS.read` does."""
        return self.vfs.read(self.handle, offset, length)

    def request(self, ranges: Iterable[range], request_bytes: int) -> bool:
        """Request these bytes all at once, without waiting; False if there was no memory for all.

        No request is longer than `request_bytes`.
        What is cached is not requested, and nothing if the file is read from a copy on disk.
        """
        ref = self.handle.ref
        if ref is None or self.handle.copy is not None:
            return True
        return self.vfs.session.reader.request_parts(ref, ranges, request_bytes)

    def read_index(self) -> MediaIndex:
        """Return the index of the video that it is, from memory if it is there.

        Raises MediaError, which begins with the path, if it has no index that can be used, and what
        `VFS.read` raises.
        """
        if ref := self._ref_without_index:
            self.vfs.video_facts.fetch_ahead(ref)
        try:
            return self.vfs.indexes.index(
                self._version, self.handle.size, self.read, self._record_facts
            )
        except MediaError as error:
            raise MediaError(f"{self.handle.path} has no usable index: {error}") from error

    def cut(self, start_s: float, end_s: float) -> Cut:
        """Cut the window [start_s, end_s) out of the video, or return it from memory.

        Raises ValueError if it is no window, starts after the end of the video, ends by more than
        AFTER_END_S after it, or has no picture, and what `read_index` raises.
        """
        if ref := self._ref_without_index:
            self.vfs.video_facts.request_window(ref, start_s, end_s)
        return self.vfs.indexes.cut(self._version, start_s, end_s, self.read_index)

    @property
    def _ref_without_index(self) -> ObjectRef | None:
        """The object, if its index is not in memory, and the file is not read from a copy."""
        is_in_memory = self._version in self.vfs.indexes
        return None if is_in_memory or self.handle.copy else self.handle.ref

    def _record_facts(self, index: MediaIndex) -> None:
        ref = self.handle.ref
        if ref is not None:
            self.vfs.video_facts.record(ref, index)

    @property
    def _version(self) -> str:
        """Return what is equal only if all bytes are, also after damaged ones were replaced."""
        ref = self.handle.ref
        copy = self.handle.copy
        name = ref.object_id if ref else self.handle.path
        return f"{name} {self.handle.version} {copy.mtime_ns if copy else ''}"


@dataclass(frozen=True, slots=True)
class Video(ExactFile):
    """One version of a video that is open. Safe from several threads."""

    index: MediaIndex

    def read_index(self) -> MediaIndex:
        """Return its index."""
        return self.index


def open_video(vfs: VFS, path: str) -> Video:
    """Open a video and read its index.

    Raises MediaError, which begins with the path, if it has no index that can be used, and what
    `VFS.open` and `VFS.read` raise.
    """
    return current(vfs, path, lambda file: Video(vfs, file.handle, file.read_index()))


def current(vfs: VFS, path: str, use: Callable[[ExactFile], _T]) -> _T:
    """Open a file and return what `use` makes of it; do both again if the object was replaced."""
    try:
        return use(_open(vfs, path))
    except ObjectChanged:  # or its size was wrong; the facts are right now
        return use(_open(vfs, path))


def _open(vfs: VFS, path: str) -> ExactFile:
    handle = vfs.open(path, first_offset=0, reads_index=True)
    handle.window = ExactWindow()
    return ExactFile(vfs, handle)
