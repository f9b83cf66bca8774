"""The index of MP4s says what FFmpeg says, and which bytes a window of seconds needs."""

from __future__ import annotations

import io
import random
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise

import av
import pytest

from ego4dfs.media import MediaIndex, find_index, read_index
from kit import media

pytestmark = pytest.mark.first_pass

_HANDLERS = {"video": "vide", "audio": "soun"}
EVERY_FORM = pytest.mark.parametrize("form", media.FORMS)


def index_of(data: bytes) -> MediaIndex:
    return read_index(len(data), lambda offset, length: data[offset : offset + length])


@EVERY_FORM
def test_key_frames_are_those_of_ffmpeg(form):
    data = media.form(form)
    found = media.key_frames(index_of(data).video)
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        entries = [(e.pos, e.pos + e.size, e.is_keyframe) for e in stream.index_entries]
        keys = {
            (packet.pos, packet.pts * packet.time_base)
            for packet in container.demux(stream)
            if packet.is_keyframe and packet.pts is not None
        }
    assert found.offsets.tolist() == [start for start, _, is_key in entries if is_key]
    assert found.stop == max(stop for _, stop, _ in entries)
    timescale = index_of(data).video.timescale
    mine = zip(found.offsets.tolist(), found.times.tolist(), strict=True)
    assert {(offset, time / timescale) for offset, time in mine} == {
        (offset, float(time)) for offset, time in keys
    }


@EVERY_FORM
def test_all_samples_are_the_packets_of_ffmpeg(form):
    data = media.form(form)
    mine = [
        (track.kind, offset, size, Fraction(time, track.timescale))
        for track in index_of(data).tracks
        for offset, size, time in zip(
            track.samples.offsets.tolist(),
            track.samples.sizes.tolist(),
            track.samples.present.tolist(),
            strict=True,
        )
    ]
    with av.open(io.BytesIO(data)) as container:
        packets = [
            (_HANDLERS[packet.stream.type], packet.pos, packet.size, packet.pts * packet.time_base)
            for packet in container.demux()
            if packet.pts is not None
        ]
    assert sorted(mine) == sorted(packets)


@EVERY_FORM
def test_the_duration_is_that_of_ffmpeg(form):
    data = media.form(form)
    index = index_of(data)
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        start_s = float((stream.start_time or 0) * stream.time_base)
        stop_s = start_s + float(stream.duration * stream.time_base)
    assert index.start_s == pytest.approx(start_s, abs=1e-9)
    assert index.stop_s == pytest.approx(stop_s, abs=1e-3)


@EVERY_FORM
def test_a_window_decodes_from_its_bytes_alone(form):
    """All bytes but those of the index and of the window are zeroed."""
    data = media.form(form)
    index, rng = index_of(data), random.Random(form)
    head = find_index(len(data), lambda offset, length: data[offset : offset + length])
    for _ in range(5):
        start_s = rng.uniform(index.start_s, index.stop_s - 0.3)
        stop_s = min(index.stop_s, start_s + rng.uniform(0.1, 1.5))
        partial = bytearray(len(data))
        needed = index.byte_ranges(start_s, stop_s)
        kept = [range(head.start), range(head.start, head.start + len(head.moov)), *needed]
        if head.start > needed[0].start:
            kept[0] = range(48)  # ftyp, free and the header of mdat
        for place in kept:
            partial[place.start : place.stop] = data[place.start : place.stop]
        wanted = media.decoded(data, start_s, stop_s)
        assert media.decoded(bytes(partial), start_s, stop_s) == wanted
        assert wanted


@EVERY_FORM
def test_a_window_needs_little_more_than_its_share(form):
    """At most one group of 12 pictures before it, and the time that frames are held back."""
    index = index_of(media.form(form))
    for start_s in (1.0, 2.0, 2.9):
        needed = sum(map(len, index.byte_ranges(start_s, start_s + 0.5)))
        assert needed < index.size * (0.5 + 0.4 + 0.4) / media.SECONDS


def test_ranges_are_in_order_and_disjoint():
    index = index_of(media.form("index in front"))
    ranges = index.byte_ranges(1.13, 2.4)
    assert all(one.stop < other.start for one, other in pairwise(ranges))
    assert all(one.start < one.stop <= index.size for one in ranges)


@pytest.mark.parametrize(
    "times", [(-1, 1), (2, 2), (3, 2), (float("nan"), 1), (0, float("nan")), (0, float("inf"))]
)
def test_a_window_that_is_none_is_a_value_error(times):
    with pytest.raises(ValueError, match="is not a window"):
        index_of(media.form("no sound")).byte_ranges(*times)


def test_a_window_after_the_end_needs_nothing():
    assert index_of(media.form("no sound")).byte_ranges(1e6, 1e9) == []


def test_mounts_and_listings_start_without_numpy():
    """It takes 0.1 s and 17 MiB."""
    code = "import sys, ego4dfs.cli.mount, ego4dfs.cli.ls; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
