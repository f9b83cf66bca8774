"""MediaIndex: the tracks of an MP4, and the bytes that a window of time needs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ego4dfs.media.groups import Groups, groups_of
from ego4dfs.media.sample_tables import Integers
from ego4dfs.media.track import Track

PREROLL_S = 0.1
"""How much sound before the key frame is in a window: AAC needs one frame of 21 ms to decode the
next one exactly, and Opus needs 80 ms."""


@dataclass(frozen=True, slots=True)
class MediaIndex:
    """The index of one MP4 with at least one video track. Immutable.

    `size` is the length of the object in bytes: all samples are inside it, and so is the index,
    `place`. `movie_header` is the body of `mvhd`, `file_type` the box `ftyp` or empty.
    """

    size: int
    place: range
    tracks: tuple[Track, ...]
    movie_header: bytes
    file_type: bytes

    @property
    def video(self) -> Track:
        """The first video track."""
        return next(track for track in self.tracks if track.kind == "vide")

    @property
    def start_s(self) -> float:
        """When the first picture is presented, in seconds from the start of the movie."""
        return self.video.shown.start / self.video.timescale

    @property
    def stop_s(self) -> float:
        """When the last picture ends, in seconds from the start of the movie."""
        return self.video.shown.stop / self.video.timescale

    def picture_times(self, start_s: float, stop_s: float) -> NDArray[np.float64]:
        """Return when the pictures of [start_s, stop_s) are presented, in seconds, ascending."""
        video = self.video
        found = video.presented(video.ticks(start_s), video.ticks(stop_s))
        return np.sort(found) / video.timescale

    def groups(self) -> Groups:
        """Return the groups of pictures of the first video track."""
        sound = (track for track in self.tracks if track.kind == "soun")
        return groups_of(self.video, sound, PREROLL_S)

    def byte_ranges(self, start_s: float, stop_s: float) -> list[range]:
        """Return the bytes that presentation of [start_s, stop_s) needs, of all tracks.

        They are in order, disjoint and inside the object. Samples are those of `window`. Raises
        ValueError for times that are not numbers with 0 <= start_s < stop_s.
        """
        parts = [np.zeros((0, 2), np.int64)]
        for track, chosen in self.window(start_s, stop_s):
            picked = slice(chosen.start, chosen.stop)
            starts, sizes = track.samples.offsets[picked], track.samples.sizes[picked]
            parts.append(np.stack([starts, starts + sizes], axis=1)[sizes > 0])
        return _merged(np.concatenate(parts))

    def window(self, start_s: float, stop_s: float) -> list[tuple[Track, range]]:
        """Return the tracks that presentation of [start_s, stop_s) needs, and their samples.

        Video is needed from its key frame before the window on, other tracks from the time of that
        key frame on, less PREROLL_S. Raises ValueError as `byte_ranges` does.
        """
        if not (0 <= start_s < stop_s and math.isfinite(stop_s)):
            raise ValueError(f"{start_s} s to {stop_s} s is not a window")
        video = self.video
        pictures = video.window(video.ticks(start_s), video.ticks(stop_s))
        preroll_s = PREROLL_S
        if pictures:
            key_s = int(video.samples.present[pictures.start]) / video.timescale
            preroll_s += max(0.0, start_s - key_s)
        found = []
        for track in self.tracks:
            preroll = 0 if track.kind == "vide" else track.ticks(preroll_s)
            chosen = track.window(track.ticks(start_s), track.ticks(stop_s), preroll)
            if chosen:
                found.append((track, chosen))
        return found


def _merged(spans: Integers) -> list[range]:
    """Return the union of half-open ranges, which are rows of (start, stop), in order."""
    if not len(spans):
        return []
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    starts, reach = spans[:, 0], np.maximum.accumulate(spans[:, 1])
    firsts = np.append(0, np.flatnonzero(starts[1:] > reach[:-1]) + 1)
    lasts = np.append(firsts[1:], len(starts)) - 1
    return list(map(range, starts[firsts].tolist(), reach[lasts].tolist()))
