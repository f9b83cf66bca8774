"""CutWriter: the index (the box `moov`) of a cut, from the tables of the whole file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ego4dfs.media.box_writer import (
    make_box,
    make_dated_box,
    make_edit_list,
    make_full_box,
    make_table,
)
from ego4dfs.media.cut_layout import Part, changes
from ego4dfs.media.index import MediaIndex
from ego4dfs.media.sample_tables import Integers
from ego4dfs.media.track import Track

_MIN_TIMESCALE = 100_000


class CutWriter:
    """Writes the index of the cut [start_s, stop_s). Immutable.

    The time scale of the movie is a multiple of that of the video, so that times of pictures are
    exact.
    """

    def __init__(self, index: MediaIndex, start_s: float, stop_s: float) -> None:
        self._header, self._video = index.movie_header, index.video
        self._start_s, self._stop_s = start_s, stop_s
        scale = self._video.timescale
        self._timescale = scale * -(-_MIN_TIMESCALE // scale)

    def shown(self, track: Track) -> range:
        """Return the ticks of the window in which the track is presented.

        A video is presented from its first picture in the window on, not from the rest of the one
        before: FFmpeg does not present that rest, and would present all pictures too early.
        """
        start, stop = track.ticks(self._start_s), track.ticks(self._stop_s)
        start, stop = max(start, track.shown.start), min(stop, track.shown.stop)
        if start < stop and track.kind == "vide":
            pictures = track.presented(start, stop)
            start = int(pictures.min()) if len(pictures) else stop
        return range(start, max(start, stop))

    @property
    def seconds(self) -> float:
        """How long the video is presented, from the start of the window on."""
        return self._ends(self._video) / self._timescale

    @property
    def pictures(self) -> int:
        """How many pictures are presented."""
        present, shown = self._video.samples.present, self.shown(self._video)
        return int(np.count_nonzero((present >= shown.start) & (present < shown.stop)))

    def moov(self, parts: Sequence[Part], media_offset: int) -> bytes:
        """Return the box `moov` for media data that starts at `media_offset` of the cut."""
        tracks = [self._trak(part, media_offset) for part in parts]
        duration = max(self._ends(part.track) for part in parts)
        timescale = self._timescale.to_bytes(4, "big")
        mvhd = make_dated_box(b"mvhd", timescale, duration, self._header[-80:])
        return make_box(b"moov", mvhd, *tracks)

    def _movie_ticks(self, ticks: int, track: Track) -> int:
        return (ticks * self._timescale + track.timescale // 2) // track.timescale

    def _ends(self, track: Track) -> int:
        """Return when a track ends, in ticks of the movie from the start of the window."""
        since_start = self.shown(track).stop - track.ticks(self._start_s)
        return self._movie_ticks(since_start, track)

    def _trak(self, part: Part, media_offset: int) -> bytes:
        track, boxes = part.track, part.track.boxes
        number = track.number.to_bytes(4, "big") + bytes(4)
        flags = boxes.tkhd[1:4]
        tkhd = make_dated_box(b"tkhd", number, self._ends(track), boxes.tkhd[-60:], flags=flags)
        decode = track.samples.decode
        duration = int(decode[part.stop] - decode[part.first])
        timescale = track.timescale.to_bytes(4, "big")
        mdhd = make_dated_box(b"mdhd", timescale, duration, boxes.mdhd[-4:])
        stbl = make_box(b"stbl", *self._tables(part, media_offset))
        minf = make_box(b"minf", boxes.media_header, stbl)
        mdia = make_box(b"mdia", mdhd, boxes.hdlr, minf)
        return make_box(b"trak", tkhd, self._edts(part), mdia)

    def _edts(self, part: Part) -> bytes:
        track, shown = part.track, self.shown(part.track)
        empty = self._movie_ticks(shown.start - track.ticks(self._start_s), track)
        first_decoded = int(track.samples.decode[part.first])
        media_start = shown.start - track.shift - first_decoded + _delay(part)
        return make_edit_list(empty, media_start, self._ends(track) - empty)

    def _tables(self, part: Part, media_offset: int) -> Iterator[bytes]:
        samples, picked = part.track.samples, slice(part.first, part.stop)
        yield make_box(b"stsd", part.track.boxes.stsd)
        durations = np.diff(samples.decode[part.first : part.stop + 1])
        yield make_table(b"stts", *_run_lengths(durations))
        delays = _composition_offsets(part) + _delay(part)
        if delays.any():
            yield make_table(b"ctts", *_run_lengths(delays))
        is_key = samples.is_key[picked]
        if not is_key.all():
            yield make_table(b"stss", np.flatnonzero(is_key) + 1)
        offsets, counts, descriptions, width = part.chunks
        heads = changes(counts, descriptions)
        yield make_table(b"stsc", heads + 1, counts[heads], descriptions[heads])
        sizes = samples.sizes[picked]
        count = len(sizes).to_bytes(4, "big")
        yield make_full_box(b"stsz", bytes(4), count, sizes.astype(">u4").tobytes())
        yield make_table(b"stco" if width == 4 else b"co64", offsets + media_offset, width=width)


def _composition_offsets(part: Part) -> Integers:
    track, picked = part.track, slice(part.first, part.stop)
    return track.samples.present[picked] - track.shift - track.samples.decode[:-1][picked]


def _delay(part: Part) -> int:
    """Return what makes all composition offsets positive, so that version 0 of `ctts` has them."""
    return max(0, -int(_composition_offsets(part).min()))


def _run_lengths(values: Integers) -> tuple[Integers, Integers]:
    """Return the lengths of runs of equal values, and their values."""
    heads = changes(values)
    return np.diff(heads, append=len(values)), values[heads]
