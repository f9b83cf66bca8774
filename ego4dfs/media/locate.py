"""Search for the index (the box `moov`) of an MP4 in an object of which ranges can be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ego4dfs.errors import MediaError
from ego4dfs.media.boxes import HEADER_BYTES, LONG_HEADER_BYTES, Box, box_at

Read = Callable[[int, int], bytes]
"""Return the bytes of [offset, offset + length) that the object has."""

MAX_INDEX_BYTES = 64 << 20
"""A longer index is refused. The index of one hour of video with sound has about 2 MB."""
FIRST_READ_BYTES = 256 << 10
"""What is read at the start of an object."""
NEXT_READ_BYTES = 2 << 20
"""What is read after a box that was skipped, such as the media data: most indexes, as a whole."""
MAX_READS = 8
"""The most reads of which each depends on the one before; two are usual."""
FRAGMENTED = "it is fragmented: its index is in many places"
_MAX_BOXES = 1024
_MAX_FILE_TYPE_BYTES = 1 << 10


class IndexBytes(NamedTuple):
    """The index of an object of `size` bytes: the box `moov`, which starts at `start`.

    `file_type` is the box `ftyp`, or empty if there is none.
    """

    size: int
    start: int
    moov: bytes
    file_type: bytes = b""


def find_index(size: int, read: Read) -> IndexBytes:
    """Find the index of an MP4 of `size` bytes, at its start, at its end or in between.

    If there are several, the first is returned, as FFmpeg does. At most MAX_READS reads are made,
    and MAX_INDEX_BYTES and NEXT_READ_BYTES for each of them are read. Raises MediaError if there
    is no index, the file is fragmented, or its boxes are damaged, and what `read` raises.
    """
    source = _Source(size, read)
    position, file_type = 0, b""
    for _ in range(_MAX_BOXES):
        if position + HEADER_BYTES > size:
            raise MediaError("it has no index (moov)")
        box = box_at(source.bytes_at(position, LONG_HEADER_BYTES), position, size)
        if box.kind == b"moov":
            return IndexBytes(size, box.start, _whole(source, box), file_type)
        if box.kind in {b"moof", b"styp", b"sidx"}:
            raise MediaError(FRAGMENTED)
        if box.kind == b"ftyp" and box.stop <= _MAX_FILE_TYPE_BYTES:
            file_type = source.bytes_at(box.start, box.stop - box.start)
        position = box.stop
    raise MediaError(f"its index is not among the first {_MAX_BOXES} boxes")


def index_in_front(start: bytes, size: int) -> range:
    """Return the place of the index of an MP4 of `size` bytes, if its header is in `start`.

    `start` are its first bytes. Returns an empty range if they have no such header. Raises
    MediaError if their boxes are damaged.
    """
    position = 0
    while position + LONG_HEADER_BYTES <= len(start):
        box = box_at(start[position : position + LONG_HEADER_BYTES], position, size)
        if box.kind == b"moov":
            return range(box.start, box.stop)
        position = box.stop
    return range(0)


def _whole(source: _Source, box: Box) -> bytes:
    length = box.stop - box.start
    if length > MAX_INDEX_BYTES:
        raise MediaError(f"its index has {length} bytes; the limit is {MAX_INDEX_BYTES}")
    return source.bytes_at(box.start, length)


class _Source:
    """The object, with the bytes that the last read returned."""

    def __init__(self, size: int, read: Read) -> None:
        self._size = size
        self._read = read
        self._start = 0
        self._data = b""
        self._reads = 0

    def bytes_at(self, start: int, length: int) -> bytes:
        """Return these bytes, fewer at the end of the object; only missing ones are read."""
        stop = min(self._size, start + length)
        has = self._data[start - self._start :] if start >= self._start else b""
        missing = stop - start - len(has)
        if missing > 0:
            least = FIRST_READ_BYTES if not self._reads else 0 if has else NEXT_READ_BYTES
            self._data = has + self._fetch(start + len(has), max(missing, least))
            self._start, has = start, self._data
        return has[: stop - start]

    def _fetch(self, start: int, length: int) -> bytes:
        if self._reads == MAX_READS:
            raise MediaError(f"its index was not found with {MAX_READS} reads")
        self._reads += 1
        length = min(length, self._size - start)
        data = self._read(start, length)
        if len(data) != length:
            raise MediaError(f"{length} bytes were read at {start}, and {len(data)} returned")
        return data
