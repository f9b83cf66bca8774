"""Groups of pictures of a video: their times, and the bytes that each needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ego4dfs.media.sample_tables import Integers
from ego4dfs.media.track import Track

MAX_GAP_BYTES = 1 << 20
"""Sound that is interleaved with its pictures is closer to them: FFmpeg's chunks have a second."""


class Groups(NamedTuple):
    """The groups of pictures of a video, one for each key frame, in decoding order.

    `times` are the presentation times of the key frames in ticks of the video track. A group
    needs the bytes [start, stop): its pictures, and the sound from a little before its key frame to
    the next one. Bytes of two groups may overlap.
    """

    times: list[int]
    starts: list[int]
    stops: list[int]


def groups_of(video: Track, sound: Iterable[Track], preroll_s: float) -> Groups:
    """Return the groups of a video track with key frames, in time linear in its samples.

    Of the tracks `sound` they need the samples from `preroll_s` before the key frame on, if these
    are at most MAX_GAP_BYTES away from the pictures: sound that is elsewhere in the file is left
    out.
    """
    samples = video.samples
    keys = np.flatnonzero(samples.is_key)
    times = samples.present[keys]
    starts, stops = _extremes(video, keys, np.append(keys[1:], len(samples)))
    # Pictures may be decoded after the next key frame, and presented before it.
    groups = np.maximum(np.searchsorted(times, samples.present, side="right") - 1, 0)
    np.maximum.at(stops, groups, samples.offsets + samples.sizes)
    for track in sound:
        present = track.samples.present
        ticks = times / video.timescale * track.timescale
        before = np.floor(ticks - preroll_s * track.timescale)
        firsts = np.maximum(np.searchsorted(present, before, side="right") - 1, 0)
        lasts = np.append(np.searchsorted(present, ticks[1:]), len(present))
        first, last = _extremes(track, firsts, lasts)
        is_heard = (firsts < lasts) & (before < track.shown.stop)
        is_near = (first >= starts - MAX_GAP_BYTES) & (last <= stops + MAX_GAP_BYTES)
        starts = np.where(is_heard & is_near, np.minimum(starts, first), starts)
        stops = np.where(is_heard & is_near, np.maximum(stops, last), stops)
    return Groups(times.tolist(), starts.tolist(), stops.tolist())


def _extremes(track: Track, firsts: Integers, lasts: Integers) -> tuple[Integers, Integers]:
    """Return the first and the last byte of samples [first, last) of a track, for each pair.

    Of an empty pair those of one sample are returned.
    """
    offsets, sizes = track.samples.offsets, track.samples.sizes
    pairs = np.stack([firsts, lasts], axis=1).ravel()
    starts = np.minimum.reduceat(np.append(offsets, np.iinfo(np.int64).max), pairs)[::2]
    stops = np.maximum.reduceat(np.append(offsets + sizes, 0), pairs)[::2]
    return starts, stops
