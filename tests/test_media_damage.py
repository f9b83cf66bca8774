"""An index is found with few reads; a damaged one is refused, in bounded time and memory."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ego4dfs.errors import MediaError
from ego4dfs.media import IndexBytes, MediaIndex, find_index, parse_index, read_index
from ego4dfs.media.boxes import MAX_CHILDREN
from ego4dfs.media.locate import (
    FIRST_READ_BYTES,
    MAX_INDEX_BYTES,
    MAX_READS,
    NEXT_READ_BYTES,
)
from ego4dfs.media.parser import MAX_SAMPLES, MAX_TRACKS
from kit import media
from kit.data import MIB

pytestmark = pytest.mark.first_pass


class Reads:
    """An object of mostly zeros, which counts how it is read."""

    def __init__(self, size: int, pieces: dict[int, bytes]) -> None:
        self.size = size
        self.pieces = pieces
        self.calls: list[tuple[int, int]] = []

    def __call__(self, offset: int, length: int) -> bytes:
        self.calls.append((offset, length))
        data = bytearray(min(length, self.size - offset))
        for start, piece in self.pieces.items():
            first, last = max(start, offset), min(start + len(piece), offset + length)
            if first < last:
                data[first - offset : last - offset] = piece[first - start : last - start]
        return bytes(data)

    @property
    def bytes_read(self) -> int:
        return sum(length for _, length in self.calls)


def long_mdat(length: int) -> bytes:
    return (1).to_bytes(4, "big") + b"mdat" + length.to_bytes(8, "big")


def filled_moov(length: int) -> bytes:
    return media.box("moov", bytes(length - 8))


FTYP = media.box("ftyp", b"isom", bytes(4))


@pytest.mark.parametrize("length", [1000, FIRST_READ_BYTES, 800_000, 5 * MIB])
def test_an_index_in_front_takes_two_reads_at_most(length):
    moov = filled_moov(length)
    reads = Reads(800 * MIB, {0: FTYP, len(FTYP): moov})
    assert find_index(reads.size, reads) == IndexBytes(reads.size, len(FTYP), moov, FTYP)
    assert len(reads.calls) == (1 if length < FIRST_READ_BYTES - len(FTYP) else 2)
    assert reads.bytes_read == max(FIRST_READ_BYTES, len(FTYP) + length)


@pytest.mark.parametrize("length", [1000, 800_000, NEXT_READ_BYTES])
def test_an_index_at_the_end_takes_two_reads(length):
    moov, size = filled_moov(length), 10**13
    mdat = long_mdat(size - len(FTYP) - length)
    reads = Reads(size, {0: FTYP, len(FTYP): mdat, size - length: moov})
    assert find_index(size, reads) == IndexBytes(size, size - length, moov, FTYP)
    assert reads.bytes_read == FIRST_READ_BYTES + length
    assert len(reads.calls) == 2


def test_a_long_index_at_the_end_takes_three_reads():
    moov, size = filled_moov(5 * MIB), 10**13
    mdat = long_mdat(size - len(FTYP) - len(moov))
    reads = Reads(size, {0: FTYP, len(FTYP): mdat, size - len(moov): moov})
    assert find_index(size, reads).moov == moov
    assert len(reads.calls) == 3
    assert reads.bytes_read == FIRST_READ_BYTES + len(moov)


def test_an_index_of_size_0_reaches_to_the_end():
    moov = bytes(4) + b"moov" + bytes(100)
    data = FTYP + moov
    found = find_index(len(data), lambda offset, length: data[offset : offset + length])
    assert found.moov == moov


def refused(data: bytes | Reads) -> str:
    """Return the message with which an object is refused."""
    read = data if isinstance(data, Reads) else Reads(len(data), {0: data})
    with pytest.raises(MediaError) as caught:
        read_index(read.size, read)
    return str(caught.value)


def test_an_object_without_an_index_is_refused():
    assert "no index" in refused(b"")
    assert "no index" in refused(FTYP)
    assert "no index" in refused(FTYP + media.box("mdat", bytes(1000)))
    assert "no index" in refused(FTYP + bytes(4) + b"mdat" + bytes(1000))


def test_a_file_that_was_cut_off_is_refused():
    whole = media.form("index at the end")
    assert "impossible size" in refused(whole[:-1])
    assert "impossible size" in refused(whole[: len(whole) // 2])
    assert "outside the file" in refused(media.form("index in front")[:-1])


def test_another_format_is_refused():
    assert "impossible size" in refused(b"\x1aE\xdf\xa3" + bytes(range(200)))


def test_a_fragmented_file_is_recognised():
    assert "fragmented" in refused(media.encode(movflags="+frag_keyframe+empty_moov"))
    assert "fragmented" in refused(media.encode(movflags="+frag_keyframe"))
    assert "fragmented" in refused(FTYP + media.box("moof", bytes(100)))


def test_a_longer_index_than_the_limit_is_not_read():
    length = MAX_INDEX_BYTES + 1
    reads = Reads(10**9, {0: length.to_bytes(4, "big") + b"moov"})
    assert "limit" in refused(reads)
    assert reads.bytes_read == FIRST_READ_BYTES


def test_the_number_of_reads_is_bounded():
    step = 2 * MIB
    reads = Reads(10**9, {at: step.to_bytes(4, "big") + b"free" for at in range(0, 10**9, step)})
    assert "reads" in refused(reads)
    assert len(reads.calls) == MAX_READS


def test_the_number_of_boxes_is_bounded():
    assert "first 1024 boxes" in refused(media.box("free") * 2000)
    assert f"more than {MAX_CHILDREN}" in refused(media.box("moov", media.box("free") * 5000))


def test_a_short_read_is_an_error():
    with pytest.raises(MediaError, match="returned"):
        find_index(1000, lambda _offset, length: bytes(length - 1))


# Parsing of one that is damaged, or beyond a limit.

CHUNKS = (media.table("stsc", (1, 2, 1)), media.table("stco", (100,)))
STTS, STSZ = media.table("stts", (2, 1)), media.stsz(10, 20)
TRACK = media.trak(*CHUNKS, STTS, STSZ)
SIZE = 200


def parsed(*tables: bytes, edts: bytes = b"", size: int = SIZE, timescale: int = 30) -> MediaIndex:
    track = media.trak(*tables, edts=edts, timescale=timescale)
    return parse_index(IndexBytes(size, 0, media.moov(track)))


def test_a_track_of_two_samples():
    track = parsed(*CHUNKS, STTS, STSZ).video
    assert track.samples.offsets.tolist() == [100, 110]
    assert track.samples.decode.tolist() == [0, 1, 2]
    assert (track.shown, track.timescale) == (range(2), 30)
    assert media.key_frames(track).times.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("field_bits", "packed"), [(4, b"\x5a\x70"), (8, b"\x05\x0a\x07"), (16, b"\0\5\0\12\0\7")]
)
def test_compact_sizes(field_bits, packed):
    head = field_bits.to_bytes(4, "big") + (3).to_bytes(4, "big")
    stz2 = media.box("stz2", bytes(4), head, packed)
    chunks = (media.table("stsc", (1, 3, 1)), media.table("stco", (100,)))
    track = parsed(*chunks, media.table("stts", (3, 1)), stz2).video
    assert track.samples.sizes.tolist() == [5, 10, 7]


def test_offsets_of_64_bits_and_chunks_of_several_lengths():
    chunks = media.table("stsc", (1, 2, 1), (3, 1, 2))
    stco = media.box(
        "co64",
        bytes(4),
        (3).to_bytes(4, "big"),
        *(offset.to_bytes(8, "big") for offset in (2**40, 2**41, 2**42)),
    )
    sizes, times = media.stsz(5, constant=10), media.table("stts", (2, 3), (3, 5))
    samples = parsed(chunks, stco, times, sizes, size=2**43).video.samples
    starts = [2**40, 2**40 + 10, 2**41, 2**41 + 10, 2**42]
    assert samples.offsets.tolist() == starts
    assert samples.decode.tolist() == [0, 3, 6, 11, 16, 21]
    assert samples.description.tolist() == [1, 1, 1, 1, 2]


def test_an_edit_list_shifts_and_ends_the_presentation():
    edits = media.edits((500, -1, 1 << 16), (2000, 3, 1 << 16))
    chunks = (media.table("stsc", (1, 90, 1)), media.table("stco", (0,)))
    sizes, times = media.stsz(90, constant=1), media.table("stts", (90, 1))
    track = parsed(*chunks, times, sizes, edts=edits).video
    assert track.shown == range(15, 75)
    assert track.samples.present.tolist() == list(range(12, 102))


def test_a_track_without_samples_is_left_out():
    none = (media.table("stsc"), media.table("stco"), media.table("stts"), media.stsz())
    moov = media.moov(media.trak(*none), media.trak(*CHUNKS, STTS, STSZ, number=2))
    index = parse_index(IndexBytes(SIZE, 0, moov))
    assert [track.number for track in index.tracks] == [2]


def test_a_window_before_the_first_sample_needs_nothing():
    ctts = media.table("ctts", (2, 30))
    index = parsed(*CHUNKS, STTS, STSZ, ctts)
    assert index.byte_ranges(0, 0.5) == []
    assert index.byte_ranges(0, 1.02) == [range(100, 110)]


def test_presentation_may_precede_decoding():
    ctts = media.table("ctts", (1, 1), (1, -1), version=1)
    track = parsed(*CHUNKS, STTS, STSZ, ctts).video
    assert track.samples.present.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ((*CHUNKS, STTS), "no box stz2"),
        ((*CHUNKS, STSZ), "no box stts"),
        ((CHUNKS[0], STTS, STSZ), "no box co64"),
        ((*CHUNKS, STTS, media.stsz(10, 191)), "outside the file"),
        ((CHUNKS[0], media.table("stco", (201,)), STTS, STSZ), "outside the file"),
        ((CHUNKS[0], media.table("stco", (2**32 - 1,)), STTS, STSZ), "outside the file"),
        ((*CHUNKS, media.table("stts", (3, 1)), STSZ), "as many samples"),
        ((*CHUNKS, media.table("stts", (2**32 - 1, 1)), STSZ), "as many samples"),
        ((*CHUNKS, STTS, STSZ, media.table("ctts", (1, 1))), "as many samples"),
        ((*CHUNKS, STTS, STSZ, media.table("ctts", (-1, 1), (3, 1))), "as many samples"),
        ((*CHUNKS, STTS, STSZ, media.table("stss", (0,))), "do not exist"),
        ((*CHUNKS, STTS, STSZ, media.table("stss", (3,))), "do not exist"),
        ((*CHUNKS, STTS, STSZ, media.table("stss")), "key frames"),
        ((media.table("stsc", (2, 2, 1)), CHUNKS[1], STTS, STSZ), "not in order"),
        ((media.table("stsc", (1, 1, 1), (1, 1, 1)), CHUNKS[1], STTS, STSZ), "not in order"),
        ((media.table("stsc", (1, 2**32 - 1, 1)), CHUNKS[1], STTS, STSZ), "as many samples"),
        ((media.table("stsc"), CHUNKS[1], STTS, STSZ), "no chunk"),
        ((*CHUNKS, STTS, STSZ[:-4]), "impossible size"),
        ((*CHUNKS, STTS, media.box("stsz", STSZ[8:-4])), "more rows than its box"),
        ((*CHUNKS, media.box("stts", bytes(4), b"\xff" * 4), STSZ), "more rows than there are"),
        ((*CHUNKS, media.box("stts", bytes(7)), STSZ), "shorter than its fields"),
        ((*CHUNKS, STTS, media.stsz(MAX_SAMPLES + 1, constant=1)), f"more than {MAX_SAMPLES}"),
        ((*CHUNKS, STTS, media.box("stz2", bytes(7), b"\3", (2).to_bytes(4, "big"))), "3 bits"),
    ],
)
def test_damaged_tables_are_refused(tables, message):
    with pytest.raises(MediaError, match=re.escape(message)):
        parsed(*tables)


@pytest.mark.parametrize(
    "rows",
    [
        [(1000, 0, 1 << 16), (1000, 0, 1 << 16)],
        [(1000, 0, 1 << 16), (1000, -1, 1 << 16)],
        [(1000, 0, 1 << 15)],
        [(1000, 0, 0)],
        [(1000, -2, 1 << 16)],
        [(1000, -1, 1 << 16)] * 100,
    ],
)
def test_other_edit_lists_are_refused(rows):
    with pytest.raises(MediaError, match="edit list"):
        parsed(*CHUNKS, STTS, STSZ, edts=media.edits(*rows))


def test_a_time_scale_of_0_is_refused():
    with pytest.raises(MediaError, match="time scale"):
        parsed(*CHUNKS, STTS, STSZ, timescale=0)
    with pytest.raises(MediaError, match="time scale"):
        parse_index(IndexBytes(SIZE, 0, media.moov(TRACK, timescale=0)))


def test_a_duration_of_centuries_is_refused():
    with pytest.raises(MediaError, match="too long"):
        parsed(*CHUNKS, media.table("stts", (2, 2**32 - 1)), STSZ, timescale=1)


@pytest.mark.parametrize(
    ("moov", "message"),
    [
        (media.moov(), "no video track"),
        (media.moov(media.trak(*CHUNKS, STTS, STSZ, kind="soun")), "no video track"),
        (media.moov(TRACK, more=media.box("mvex")), "fragmented"),
        (media.moov(*[TRACK] * 7), "overlap"),
        (media.box("moov", TRACK), "no box mvhd"),
        (media.box("moov", media.box("mvhd", bytes(99))), "shorter than its fields"),
        (media.box("moov", media.box("mvhd", bytes(100)), b"\0\0\0\7trak"), "impossible size"),
        (b"moov", "impossible size"),
        (b"", "shorter than its fields"),
    ],
)
def test_damaged_indexes_are_refused(moov, message):
    with pytest.raises(MediaError, match=message):
        parse_index(IndexBytes(SIZE, 0, moov))


def test_the_number_of_tracks_is_bounded():
    with pytest.raises(MediaError, match="too many tracks"):
        parse_index(IndexBytes(10**6, 0, media.moov(*[TRACK] * (MAX_TRACKS + 1))))


def test_boxes_in_boxes_are_not_followed():
    """Only those with a known place are entered, so depth costs nothing."""
    deep = b""
    for _ in range(10_000):
        deep = media.box("moov", deep)
    with pytest.raises(MediaError, match="no box mvhd"):
        parse_index(IndexBytes(SIZE, 0, deep))


def test_the_largest_tables_are_parsed_in_linear_memory():
    """Each sample in a chunk of its own, with its own duration, offset and key frame."""
    rows = 300_000
    numbers = np.arange(1, rows + 1, dtype=">u4")
    ones = np.ones(rows, ">u4")

    def columns(kind: str, *values: np.ndarray) -> bytes:
        head = bytes(4) + rows.to_bytes(4, "big")
        return media.box(kind, head, np.stack(values, axis=1).astype(">u4").tobytes())

    tables = (
        columns("stsc", numbers, ones, ones),
        columns("stco", numbers),
        columns("stts", ones, numbers % 7),
        columns("ctts", ones, numbers % 5),
        columns("stss", numbers),
        media.stsz(rows, constant=1),
    )
    samples = parsed(*tables, size=10**9).video.samples
    assert samples.offsets.tolist() == list(range(1, rows + 1))
