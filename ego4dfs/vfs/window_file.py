"""WindowFile: the MP4 of a window as a file, at any offset, read from the whole video."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate

from ego4dfs.media import Cut
from ego4dfs.media.cut import READ_BYTES, grouped, read_pieces
from ego4dfs.reader import GROUP_REQUEST_BYTES, Window
from ego4dfs.reader.window import READAHEAD_STEP
from ego4dfs.vfs.video import ExactFile


class WindowFile:
    """The MP4 that a cut describes: its header, and bytes of an open video. `size` is its length.

    The first read requests all that is not cached, if that is at most READ_BYTES: so a reader
    waits for the store once. A longer file is read ahead as other files are.

    Reads raise as `VFS.read` does: ObjectChanged if the video was replaced since it was opened.
    Then it must be opened again. Safe from several threads.
    """

    def __init__(self, video: ExactFile, made: Cut) -> None:
        """Read the bytes of `made`, a cut of `video`."""
        self._video = video
        self._cut = made
        lengths = accumulate(map(len, made.pieces), initial=len(made.header))
        self._stops = array("q", lengths)  # of the header, and of each piece
        self.size = self._stops[-1]
        self._ahead = Window() if self.size > READ_BYTES else None
        self._is_requested = False

    def read_into(self, offset: int, view: memoryview) -> int:
        """Fill `view` with the bytes from `offset` on; return how many there were."""
        stop = min(offset + len(view), self.size)
        if offset >= stop:
            return 0
        self._request(offset, stop)
        header = self._cut.header[offset:stop]
        view[: len(header)] = header
        filled = len(header)
        # What is between them is not read: all pieces were requested, or will be read ahead.
        for data in read_pieces(self._ranges(offset + filled, stop), self._video.read, max_gap=0):
            view[filled : filled + len(data)] = data
            filled += len(data)
        return filled

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes of [offset, offset + length) that exist."""
        buffer = bytearray(max(0, min(length, self.size - offset)))
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def _request(self, start: int, stop: int) -> None:
        """Request what a read of [start, stop) and the reads after it need."""
        if self._ahead is not None:
            ahead = self._ahead.advance(start, stop)
            if ahead is not None and not self._request_range(ahead.start, ahead.stop):
                self._ahead.rewind_to(ahead.start)
        elif not self._is_requested:
            self._is_requested = self._request_range(0, self.size)

    def _request_range(self, start: int, stop: int) -> bool:
        groups = grouped(self._ranges(max(start, len(self._cut.header)), min(stop, self.size)))
        ranges = (range(g[0].start, max(p.stop for p in g)) for g in groups)
        is_short = self.size <= READAHEAD_STEP
        return self._video.request(ranges, GROUP_REQUEST_BYTES if is_short else READAHEAD_STEP)

    def _ranges(self, start: int, stop: int) -> Iterator[range]:
        """Yield the ranges of the video that are [start, stop) of the file, without its header."""
        number = bisect_right(self._stops, start)
        while start < stop:
            before, piece = self._stops[number - 1], self._cut.pieces[number - 1]
            end = min(stop, self._stops[number])
            yield range(piece.start + start - before, piece.start + end - before)
            start, number = end, number + 1
