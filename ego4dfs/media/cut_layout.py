"""The media data of a cut: which bytes of the whole file, and where in them the samples are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ego4dfs.media.sample_tables import Integers
from ego4dfs.media.track import Track

_LONG_OFFSETS_FROM = (1 << 32) - (64 << 20)  # of media data; what precedes it is shorter than that


class Chunks(NamedTuple):
    """The chunks of a track in the media data of a cut: offsets, sample counts, descriptions.

    An offset in a file needs `width` bytes.
    """

    offsets: Integers
    counts: Integers
    descriptions: Integers
    width: int


class Part(NamedTuple):
    """The samples [first, stop) of a track, and where they are."""

    track: Track
    first: int
    stop: int
    chunks: Chunks


class Layout(NamedTuple):
    """The media data of a cut: pieces of the whole file, their bytes, and the parts of tracks."""

    pieces: tuple[range, ...]
    size: int
    parts: list[Part]


def layout_of(window: Sequence[tuple[Track, range]]) -> Layout:
    """Arrange all samples in the order of the whole file, so that tracks stay interleaved."""

    def joined(values: Iterable[Integers]) -> Integers:
        return np.concatenate([*values])

    slices = [(track.samples, slice(chosen.start, chosen.stop)) for track, chosen in window]
    starts = joined(samples.offsets[picked] for samples, picked in slices)
    order = np.argsort(starts, kind="stable")
    starts = starts[order]
    sizes = joined(samples.sizes[picked] for samples, picked in slices)[order]
    owners = np.repeat(np.arange(len(window)), [len(chosen) for _, chosen in window])[order]
    numbers = joined(np.arange(chosen.start, chosen.stop) for _, chosen in window)[order]
    kinds = joined(samples.description[picked] for samples, picked in slices)[order]
    stops = np.cumsum(sizes)
    width = 8 if stops[-1] >= _LONG_OFFSETS_FROM else 4
    heads = changes(owners, numbers - np.arange(len(numbers)), kinds)
    counts = np.diff(heads, append=len(numbers))
    parts = []
    for place, (track, chosen) in enumerate(window):
        own = owners[heads] == place
        first, count = heads[own], counts[own]
        by_number = np.argsort(numbers[first], kind="stable")
        first, count = first[by_number], count[by_number]
        chunks = Chunks(stops[first] - sizes[first], count, kinds[first], width)
        parts.append(Part(track, chosen.start, chosen.stop, chunks))
    return Layout(_pieces(starts, sizes), int(stops[-1]), parts)


def changes(*columns: Integers) -> Integers:
    """Return where a run of rows that are equal in all columns begins."""
    differ = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return np.append(0, np.flatnonzero(differ) + 1)


def _pieces(starts: Integers, sizes: Integers) -> tuple[range, ...]:
    """Return the ranges that these bytes are, adjacent ones joined."""
    starts, stops = starts[sizes > 0], (starts + sizes)[sizes > 0]
    if not len(starts):
        return ()
    heads = np.append(0, np.flatnonzero(starts[1:] != stops[:-1]) + 1)
    lasts = np.append(heads[1:], len(starts)) - 1
    return tuple(map(range, starts[heads].tolist(), stops[lasts].tolist()))
