"""Cutting of a window out of an MP4 without decoding: a header, and ranges of the whole file.

The result starts at the key frame before the window, and has an edit list, so that players present
it from the first tick of the window on, as they do after `ffmpeg -ss START -c copy`. The same index
and window always give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ego4dfs.errors import MediaError
from ego4dfs.media.box_writer import media_data_header
from ego4dfs.media.cut_layout import layout_of
from ego4dfs.media.cut_writer import CutWriter
from ego4dfs.media.index import MediaIndex
from ego4dfs.media.locate import Read

READ_BYTES = 32 << 20
"""The longest read, and so what a copy needs in memory."""
MAX_PIECES = 1 << 16
"""A window of more pieces is refused: one of an hour has 7,200 if other tracks are between."""
MAX_GAP_BYTES = 256 << 10
"""Pieces with a smaller gap between them are read at once."""
AFTER_END_S = 0.5
"""How much after the end of a video a window may end: annotations round durations."""


@dataclass(frozen=True, slots=True)
class Cut:
    """An MP4 made of a header and of pieces of the whole file, in this order.

    `seconds` is how long its video is presented, and `pictures` how many are.
    """

    header: bytes
    pieces: tuple[range, ...]
    seconds: float
    pictures: int

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return len(self.header) + sum(map(len, self.pieces))

    def content(self, read: Read) -> Iterator[bytes]:
        """Yield its bytes; `read` returns bytes of the whole file.

        Raises MediaError if that returns fewer bytes than the index says, and what it raises.
        """
        yield self.header
        yield from map(bytes, read_pieces(self.pieces, read))


def cut(index: MediaIndex, start_s: float, stop_s: float) -> Cut:
    """Cut [start_s, stop_s) out of a video: all tracks, from the key frame before it on.

    What is after the end of a track is left out. Raises ValueError for times that are not numbers
    with 0 <= start_s < stop_s, and for a window in which no picture begins; MediaError for one of
    more than MAX_PIECES.
    """
    writer = CutWriter(index, start_s, stop_s)
    window = [part for part in index.window(start_s, stop_s) if writer.shown(part[0])]
    if not any(track is index.video for track, _ in window):
        raise ValueError(f"no picture begins in {start_s} s to {stop_s} s")
    layout = layout_of(window)
    if len(layout.pieces) > MAX_PIECES:
        raise MediaError(f"the window is in {len(layout.pieces)} pieces; the limit is {MAX_PIECES}")
    mdat = media_data_header(layout.size)
    before = len(index.file_type) + len(writer.moov(layout.parts, 0)) + len(mdat)
    header = index.file_type + writer.moov(layout.parts, before) + mdat
    return Cut(header, layout.pieces, writer.seconds, writer.pictures)


def outside(index: MediaIndex, start_s: float, stop_s: float) -> str:
    """Return why a window is not within a video, or an empty string; see AFTER_END_S."""
    if start_s >= index.stop_s or stop_s > index.stop_s + AFTER_END_S:
        which = "starts" if start_s >= index.stop_s else "ends"
        return f"it {which} after the end of the video, {index.stop_s:.3f} s"
    if stop_s <= index.start_s:
        return f"it ends before the first picture, {index.start_s:.3f} s"
    return ""


def cut_inside(index: MediaIndex, start_s: float, stop_s: float) -> Cut:
    """Cut a window that is within a video. Raises ValueError if it is not, and as `cut` does."""
    reason = outside(index, start_s, stop_s)
    if reason:
        raise ValueError(f"{start_s} s to {stop_s} s: {reason}")
    return cut(index, start_s, stop_s)


def read_pieces(
    pieces: Iterable[range], read: Read, max_gap: int = MAX_GAP_BYTES
) -> Iterator[memoryview]:
    """Yield the bytes of each piece, of longer ones in parts; near pieces take one call of `read`.

    Raises as `Cut.content` does.
    """
    for group in grouped(pieces, max_gap):
        start, stop = group[0].start, max(piece.stop for piece in group)
        data = memoryview(read(start, stop - start))
        if len(data) != stop - start:
            raise MediaError(f"it stops at {start + len(data)}, before its index says")
        for piece in group:
            yield data[piece.start - start : piece.stop - start]


def grouped(pieces: Iterable[range], max_gap: int = MAX_GAP_BYTES) -> Iterator[list[range]]:
    """Group pieces that are read at once: longer ones are split into READ_BYTES.

    Between two pieces of a group are at most `max_gap` bytes.
    """
    group: list[range] = []
    for piece in pieces:
        for start in range(piece.start, piece.stop, READ_BYTES):
            part = range(start, min(start + READ_BYTES, piece.stop))
            is_near = bool(group) and 0 <= part.start - group[-1].stop <= max_gap
            if group and not (is_near and part.stop - group[0].start <= READ_BYTES):
                yield group
                group = []
            group.append(part)
    if group:
        yield group
