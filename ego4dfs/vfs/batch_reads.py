"""BatchReads: one range of each of many files, for programs that know beforehand what they read.

An object of which nothing is known costs one GET request, and its bytes are returned from the
response. Nothing is read ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ego4dfs.blocks import BLOCK_SIZE
from ego4dfs.errors import Ego4DError, ObjectChanged
from ego4dfs.reader import ExactWindow
from ego4dfs.store import Fetched
from ego4dfs.vfs.tree import ObjectFile
from ego4dfs.vfs.values import Handle
from ego4dfs.vfs.vfs import VFS
from ego4dfs.vfs.windows import HIDDEN_DIRECTORY

Reserve = Callable[[int], None]
_Bound = int | None


class BatchReads:
    """Reads of a VFS. Safe from several threads."""

    def __init__(self, vfs: VFS) -> None:
        """Read the files of `vfs`."""
        self._vfs = vfs

    def look_up(self, paths: Iterable[str]) -> None:
        """Read what is known of these files from disk, all at once: a read then looks in memory.

        Raises nothing that concerns a file: its read does.
        """
        urls = (self._url(path) for path in paths)
        self._vfs.session.facts.peek_many(url for url in urls if url)

    def read(self, path: str, start: _Bound, stop: _Bound, reserve: Reserve) -> bytes:
        """Return the bytes of [start, stop), as a slice of the file's bytes has them.

        `reserve` is called with their number before they are in memory, except for those of one
        block, which comes with the facts of an unknown object. Raises as `VFS.open` and `VFS.read`
        do.
        """
        try:
            return self._read(path, start, stop, reserve)
        except ObjectChanged:  # or its size was wrong; the facts are right now
            return self._read(path, start, stop, reserve)

    def _url(self, path: str) -> str:
        """Return the URL of a file, or nothing if it is no object."""
        if path.startswith(HIDDEN_DIRECTORY):
            return ""  # a window is opened when it is resolved
        try:
            node = self._vfs.resolve(path)
        except (Ego4DError, NotADirectoryError):
            return ""
        return node.url if isinstance(node, ObjectFile) else ""

    def _read(self, path: str, start: _Bound, stop: _Bound, reserve: Reserve) -> bytes:
        node = self._vfs.resolve(path)
        first = start or 0
        if isinstance(node, ObjectFile) and first >= 0:
            block = self._first_block(node, first // BLOCK_SIZE)
            found = _part_of(block, first, stop) if block is not None else None
            if found is not None:
                self._vfs.session.metrics.add_miss()
                self._vfs.session.metrics.add_bytes_served(len(found))
                reserve(len(found))
                return found
        handle = self._vfs.open(path, first_offset=first, reads_ahead=False)
        return self._from_handle(handle, start, stop, reserve)

    def _first_block(self, node: ObjectFile, index: int) -> Fetched | None:
        """Fetch one block of an object whose facts are not in memory, and cache it.

        Returns None, without a request, if they are, or if the file has a copy; and if another
        thread fetches the facts, or if the block is after the end of the object. Then `open` knows
        more. The facts are written to disk with a later batch.
        """
        session = self._vfs.session
        if session.copies is not None and session.copies.exists(node.path):
            return None
        fetched: list[Fetched] = []
        wanted = range(index * BLOCK_SIZE, (index + 1) * BLOCK_SIZE)
        session.facts.get_unread(
            node.url, lambda url: self._vfs.first_gets.fetch(url, wanted, fetched.append)
        )
        return fetched[0] if fetched else None

    def _from_handle(self, handle: Handle, start: _Bound, stop: _Bound, reserve: Reserve) -> bytes:
        if handle.ref is not None:
            handle.window = ExactWindow()
        begin, end, _ = slice(start, stop).indices(handle.size)
        if begin >= end:  # no read confirms the size that makes it empty
            self._vfs.confirm(handle)
        reserve(max(0, end - begin))
        return self._vfs.read(handle, begin, end - begin)


def _part_of(block: Fetched, start: int, stop: _Bound) -> bytes | None:
    """Return the bytes of [start, stop) of an object, or None if the block does not have all."""
    begin, end, _ = slice(start, stop).indices(block.facts.size)
    if begin >= end:
        return b""
    first, last = begin - block.start, end - block.start
    return bytes(block.data[first:last]) if last <= len(block.data) else None
