"""One track of an MP4: its samples in decoding order, its key frames, and what a window needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ego4dfs.media.sample_tables import Integers


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of a track, in decoding order: one array for each property.

    `decode` are decoding times in ticks from 0, with one more element: the end of the last sample.
    `present` are presentation times in ticks from the start of the movie, after the edit list.
    `offsets` and `sizes` are bytes of the object. `description` is the number, from 1, of the
    sample's entry in `stsd`.
    """

    decode: Integers
    present: Integers
    offsets: Integers
    sizes: Integers
    is_key: NDArray[np.bool_]
    description: Integers

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def nbytes(self) -> int:
        """How much memory the arrays take."""
        arrays = (self.decode, self.present, self.offsets, self.sizes, self.description)
        return self.is_key.nbytes + sum(array.nbytes for array in arrays)


@dataclass(frozen=True, slots=True)
class TrackBoxes:
    """What a cut of a track copies: bodies of `tkhd` and `mdhd`, and whole boxes.

    `media_header` are the boxes of `minf` other than `stbl`.
    """

    tkhd: bytes
    mdhd: bytes
    hdlr: bytes
    media_header: bytes
    stsd: bytes


@dataclass(frozen=True, slots=True)
class Track:
    """One track. A tick is 1/`timescale` seconds.

    `kind` is the handler: `vide`, `soun` or another. `shown` are the ticks of the movie in which
    the edit list presents the track. `shift` is what the edit list adds to composition times.
    """

    number: int
    kind: str
    timescale: int
    shown: range
    shift: int
    samples: Samples
    boxes: TrackBoxes

    def ticks(self, seconds: float) -> int:
        """Return the nearest tick to a time of the movie."""
        return round(seconds * self.timescale)

    def presented(self, start: int, stop: int) -> Integers:
        """Return the presentation times, unordered, that are in the ticks [start, stop)."""
        start, stop = max(start, self.shown.start), min(stop, self.shown.stop)
        present = self.samples.present
        return present[(present >= start) & (present < stop)]

    def frames(self) -> list[dict[str, int]]:
        """Return the samples that are presented, in decoding order, under FFmpeg's names.

        `pts` and `duration` are ticks, and `key_frame` is 1 or 0.
        """
        samples = self.samples
        present = samples.present
        chosen = (present >= self.shown.start) & (present < self.shown.stop)
        columns = (present, np.diff(samples.decode), samples.is_key.astype(np.int64))
        names = ("pts", "duration", "key_frame")
        rows = zip(*(column[chosen].tolist() for column in columns), strict=True)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def window(self, start: int, stop: int, preroll: int = 0) -> range:
        """Return the numbers of the samples that presentation of the ticks [start, stop) needs.

        That is from the last key frame at `start` or before it, up to the last sample, in decoding
        order, that is presented before `stop`. With `preroll`, the key frame is so many ticks
        earlier, or the first sample; that may be before the edit list presents the track. A track
        that it does not present in these ticks needs none.
        """
        start, stop = max(start, self.shown.start), min(stop, self.shown.stop)
        if start >= stop:
            return range(0)
        present = self.samples.present
        keys = np.flatnonzero(self.samples.is_key & (present <= start - preroll))
        wanted = np.flatnonzero(present < stop)
        if not len(wanted):
            return range(0)
        first = int(keys[-1]) if len(keys) else 0
        return range(first, max(first, int(wanted[-1])) + 1)
