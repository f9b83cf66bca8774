"""Parsing of the index (the box `moov`) of an MP4 into a MediaIndex. Pure: bytes in, values out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ego4dfs.errors import MediaError
from ego4dfs.media import sample_tables as tables
from ego4dfs.media.boxes import Box, box_at, children, first, number, required
from ego4dfs.media.edit_list import Edit, edit_of
from ego4dfs.media.index import MediaIndex
from ego4dfs.media.locate import FRAGMENTED, IndexBytes, Read, find_index
from ego4dfs.media.track import Samples, Track, TrackBoxes

MAX_SAMPLES = 2 << 20
"""The most samples of all tracks: five hours at 60 frames a second with sound. A track with so many
takes 100 MiB while it is parsed."""
MAX_TRACKS = 32
MAX_SECONDS = 1 << 31
"""The longest track, so that all arithmetic of times fits in 64 bits."""


def read_index(size: int, read: Read) -> MediaIndex:
    """Read the index of an MP4 of `size` bytes. Raises MediaError, and what `read` raises."""
    return parse_index(find_index(size, read))


def parse_index(found: IndexBytes) -> MediaIndex:
    """Parse an index in time linear in its length.

    Raises MediaError if it is damaged or fragmented, has no video track with key frames, has an
    edit list of several segments, or is beyond one of the limits of this module. All samples of a
    MediaIndex are inside the object, and together they are not longer than it.
    """
    data = memoryview(found.moov)
    boxes = children(data, box_at(data[:16], 0, len(data)))
    if first(boxes, b"mvex"):
        raise MediaError(FRAGMENTED)
    header = _dated(data, boxes, b"mvhd", 80)
    limits = _Limits(found.size, _timescale(header), MAX_SAMPLES)
    tracks: list[Track] = []
    bytes_left = found.size
    for box in (one for one in boxes if one.kind == b"trak"):
        track = _track(data, box, limits)
        limits = limits._replace(samples=limits.samples - len(track.samples))
        bytes_left -= int(track.samples.sizes.sum())
        if len(tracks) == MAX_TRACKS or bytes_left < 0:
            raise MediaError("it has too many tracks, or samples that overlap")
        if len(track.samples):
            tracks.append(track)
    video = next((track for track in tracks if track.kind == "vide"), None)
    if video is None or not video.samples.is_key.any():
        raise MediaError("it has no video track with key frames")
    place = range(found.start, found.start + len(data))
    return MediaIndex(found.size, place, tuple(tracks), bytes(header), found.file_type)


class _Limits(NamedTuple):
    """What a track may use: bytes of the object, the movie's time scale, and so many samples."""

    object_size: int
    movie_timescale: int
    samples: int


def _track(data: memoryview, trak: Box, limits: _Limits) -> Track:
    boxes = children(data, trak)
    tkhd = _dated(data, boxes, b"tkhd", 60)
    mdia = children(data, required(boxes, b"mdia"))
    mdhd = _dated(data, mdia, b"mdhd", 4)
    hdlr = required(mdia, b"hdlr")
    minf = children(data, required(mdia, b"minf"))
    stbl = children(data, required(minf, b"stbl"))
    timescale = _timescale(mdhd)
    edit = edit_of(data, first(boxes, b"edts"), timescale, limits.movie_timescale)
    samples = _samples(data, stbl, edit.shift, limits)
    shown = _shown(samples, edit)
    if max(shown.stop, int(samples.decode[-1])) > timescale * MAX_SECONDS:
        raise MediaError("it is too long")
    return Track(
        number=number(tkhd, 20 if tkhd[0] else 12),
        kind=bytes(_body(data, hdlr)[8:12]).decode("latin-1"),
        timescale=timescale,
        shown=shown,
        shift=edit.shift,
        samples=samples,
        boxes=TrackBoxes(
            tkhd=bytes(tkhd),
            mdhd=bytes(mdhd),
            hdlr=bytes(data[hdlr.start : hdlr.stop]),
            media_header=b"".join(data[b.start : b.stop] for b in minf if b.kind != b"stbl"),
            stsd=bytes(_of_kind(data, stbl, b"stsd")),
        ),
    )


def _shown(samples: Samples, edit: Edit) -> range:
    """Return the ticks of the movie in which a track is presented."""
    if not len(samples):
        return range(0)
    stop = int((samples.present + np.diff(samples.decode)).max())
    stop = min(stop, edit.empty + edit.length) if edit.length else stop
    return range(edit.empty, max(edit.empty, stop))


def _samples(data: memoryview, stbl: list[Box], shift: int, limits: _Limits) -> Samples:
    is_compact, is_long = first(stbl, b"stsz") is None, first(stbl, b"stco") is None
    sizes_body = _of_kind(data, stbl, b"stz2" if is_compact else b"stsz")
    sizes = tables.sample_sizes(sizes_body, is_compact=is_compact, max_samples=limits.samples)
    count = len(sizes)
    starts_body = _of_kind(data, stbl, b"co64" if is_long else b"stco")
    starts = tables.chunk_offsets(starts_body, count, is_long=is_long)
    runs = _of_kind(data, stbl, b"stsc")
    counts, descriptions = tables.samples_of_chunks(runs, len(starts), count)
    decode = tables.decode_times(_of_kind(data, stbl, b"stts"), count)
    present, is_key = decode[:-1] + shift, np.ones(count, np.bool_)
    if first(stbl, b"ctts"):
        present += tables.composition_offsets(_of_kind(data, stbl, b"ctts"), count)
    if first(stbl, b"stss"):
        is_key = tables.sync_samples(_of_kind(data, stbl, b"stss"), count)
    return Samples(
        decode=decode,
        present=present,
        offsets=tables.sample_offsets(starts, counts, sizes, limits.object_size),
        sizes=sizes,
        is_key=is_key,
        description=np.repeat(descriptions, counts),
    )


def _dated(data: memoryview, boxes: list[Box], kind: bytes, tail_bytes: int) -> memoryview:
    """Return the body of `mvhd`, `tkhd` or `mdhd`, which has `tail_bytes` after its duration."""
    body = _of_kind(data, boxes, kind)
    fixed = {b"mvhd": 20, b"tkhd": 24, b"mdhd": 20}[kind] + tail_bytes
    length = fixed + 12 if number(body, 0, 1) else fixed
    number(body, length - 1, 1)
    return body[:length]


def _timescale(header: memoryview) -> int:
    """Return the time scale in the body of `mvhd` or `mdhd`."""
    found = number(header, 20 if header[0] else 12)
    if not found:
        raise MediaError("its time scale is 0")
    return found


def _of_kind(data: memoryview, boxes: list[Box], kind: bytes) -> memoryview:
    return _body(data, required(boxes, kind))


def _body(data: memoryview, box: Box) -> memoryview:
    return data[box.body : box.stop]
