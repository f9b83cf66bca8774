"""MediaFacts: where the index of a video is, and the bytes of its groups of pictures."""

from __future__ import annotations

import math
import struct
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it imports numpy, which takes 0.1 s
    from ego4dfs.media import MediaIndex

MAX_GROUPS = 1 << 17
"""One hour at 30 frames a second in which each picture is a key frame."""
_COLUMNS = 3


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """The index of one version of a video, in short. Immutable.

    `index` are the bytes of the box `moov`. A group of pictures begins with a key frame: `times`
    are their presentation times in ticks of 1/`timescale` s from the start of the movie, and group
    i needs the bytes [starts[i], stops[i]) of the object, with the sound between its pictures and
    a little before them. The last group ends at the tick `end`. There is at least one group, and
    times, starts and stops ascend; the bytes of two groups may overlap.
    """

    index: range
    timescale: int
    end: int
    times: Sequence[int]
    starts: Sequence[int]
    stops: Sequence[int]

    def __post_init__(self) -> None:
        """Raise ValueError if the values are not as promised."""
        count = len(self.times)
        is_complete = 0 < count <= MAX_GROUPS and count == len(self.starts) == len(self.stops)
        columns = (self.times, self.starts, self.stops)
        if not (
            is_complete
            and 0 <= self.index.start < self.index.stop
            and self.timescale > 0
            and self.end >= self.times[-1]
            and self.starts[0] >= 0
            and all(a <= b for column in columns for a, b in pairwise(column))
            and all(map(int.__lt__, self.starts, self.stops))
        ):
            raise ValueError("these are not the media facts of a video")

    @classmethod
    def of(cls, index: MediaIndex) -> MediaFacts:
        """Return the facts of an index. Raises ValueError for one that they cannot describe."""
        video = index.video
        if int(video.samples.is_key.sum()) > MAX_GROUPS:
            raise ValueError(f"it has more than {MAX_GROUPS} key frames")
        groups = index.groups()
        end = max(video.shown.stop, groups.times[-1])
        return cls(index.place, video.timescale, end, *map(_array, groups))

    def group_at(self, offset: int) -> int | None:
        """Return the number of the group that a read at `offset` begins with, or None."""
        group = bisect_right(self.starts, offset) - 1
        return group if group >= 0 and offset < self.stops[group] else None

    def bytes_near(self, start_s: float, end_s: float) -> range:
        """Return about the bytes that a window needs: in a group, bytes are as even as seconds."""
        start, end = start_s * self.timescale, end_s * self.timescale
        first = max(0, bisect_right(self.times, start) - 1)
        last = max(first, bisect_left(self.times, end) - 1)
        begin = self.times[last]
        finish = self.times[last + 1] if last + 1 < len(self.times) else self.end
        share = min(1.0, (end - begin) / (finish - begin)) if finish > begin else 1.0
        length = math.ceil(share * (self.stops[last] - self.starts[last]))
        return range(self.starts[first], self.starts[last] + length)

    @property
    def nbytes(self) -> int:
        """How much memory the groups take."""
        return 8 * _COLUMNS * len(self.times)

    def is_within(self, size: int) -> bool:
        """Return whether all of these bytes are inside an object of `size` bytes."""
        return max(self.index.stop, self.stops[-1]) <= size

    def packed(self) -> bytes:
        """Return the groups as bytes, for `unpacked`.

        That is, compressed with zlib: three columns of little-endian signed 64-bit integers, which
        are times, starts and lengths; times and starts as differences to the one before.
        """
        lengths = [stop - start for start, stop in zip(self.starts, self.stops, strict=True)]
        numbers = [*_differences(self.times), *_differences(self.starts), *lengths]
        return zlib.compress(struct.pack(f"<{len(numbers)}q", *numbers))

    @classmethod
    def unpacked(cls, index: range, timescale: int, end: int, packed: bytes) -> MediaFacts:
        """Return the facts whose groups are `packed`. Raises ValueError if they are damaged."""
        time_steps, start_steps, lengths = _columns(packed)
        times, starts = list(accumulate(time_steps)), list(accumulate(start_steps))
        stops = [start + length for start, length in zip(starts, lengths, strict=True)]
        return cls(index, timescale, end, _array(times), _array(starts), _array(stops))


def _array(numbers: Sequence[int]) -> Sequence[int]:
    """Return numbers in 8 bytes each. Raises ValueError for one that needs more."""
    try:
        return array("q", numbers)
    except OverflowError as error:
        raise ValueError("a number is too large") from error


def _differences(numbers: Iterable[int]) -> list[int]:
    return [after - before for before, after in pairwise([0, *numbers])]


def _columns(packed: bytes) -> list[tuple[int, ...]]:
    """Unpack three columns of equal length, in bounded memory."""
    limit = MAX_GROUPS * _COLUMNS * 8
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(packed, limit)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    count, rest = divmod(len(data), _COLUMNS * 8)
    if rest or not unpacker.eof:
        raise ValueError(f"{len(data)} bytes are not three columns of numbers")
    return [struct.unpack_from(f"<{count}q", data, count * 8 * n) for n in range(_COLUMNS)]
