"""The edit list of a track (`edts`): when it is presented, and from which of its ticks on."""

from __future__ import annotations

from typing import NamedTuple

from ego4dfs.errors import MediaError
from ego4dfs.media.boxes import Box, children, first, number

_MAX_TICKS = 1 << 60
_MAX_ROWS = 32
_NORMAL_RATE = 1 << 16
_EMPTY = -1  # the media time of a segment in which nothing is presented


class Edit(NamedTuple):
    """An edit list, in ticks of its track.

    Nothing is presented for `empty` ticks, then the media from its tick `media_start` on, for
    `length` ticks; 0 means all.
    """

    empty: int = 0
    media_start: int = 0
    length: int = 0

    @property
    def shift(self) -> int:
        """What is added to a composition time to get a presentation time in the movie."""
        return self.empty - self.media_start


def edit_of(data: memoryview, edts: Box | None, timescale: int, movie_timescale: int) -> Edit:
    """Return the edit list in a box `edts`, or that of a track without one.

    Raises MediaError for a list of several segments of the media, or with another speed than 1.
    """
    elst = first(children(data, edts), b"elst") if edts else None
    if elst is None:
        return Edit()
    empty, found = 0, None
    for length, start, rate in _rows(data[elst.body : elst.stop]):
        ticks = (length * timescale + movie_timescale // 2) // movie_timescale
        if max(empty + ticks, start) > _MAX_TICKS or start < _EMPTY:
            raise MediaError("its edit list has impossible times")
        if found is not None or (start != _EMPTY and rate != _NORMAL_RATE):
            raise MediaError("its edit list has several segments, or another speed")
        if start == _EMPTY:
            empty += ticks
        else:
            found = Edit(empty, start, ticks)
    return found or Edit()


def _rows(body: memoryview) -> list[tuple[int, int, int]]:
    """Return segment duration, media time and rate of each row."""
    width = 8 if number(body, 0, 1) else 4
    rows = number(body, 4)
    if rows > _MAX_ROWS:
        raise MediaError("its edit list has too many rows")
    found = []
    for at in range(8, 8 + rows * (2 * width + 4), 2 * width + 4):
        rate = number(body, at + 2 * width)
        start = int.from_bytes(body[at + width : at + 2 * width], "big", signed=True)
        found.append((number(body, at, width), start, rate))
    return found
