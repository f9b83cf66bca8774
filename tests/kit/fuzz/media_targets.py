"""Target: MP4s whose index is damaged, and cuts of those that can be used nevertheless."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from pathlib import Path

from hypothesis import strategies as st

from ego4dfs.errors import MediaError
from ego4dfs.media import Cut, MediaIndex, cut, read_index
from kit import media
from kit.fuzz.inputs import Edit, edited
from kit.fuzz.target import Target, assert_clear

CPU_S = 0.1
"""CPU time for one input; all inputs have some KB."""
_Windows = tuple[tuple[float, float], ...]
_Input = tuple[_Windows, bytes]
_WINDOWS: _Windows = ((0, 1e-9), (0, 0.5), (0.7, 1.3), (1.9, 1e9), (1e9, 2e9))
_FTYP = media.box("ftyp", b"isom", bytes(4))
_SAMPLES = 60


def _tables(first_offset: int, *, is_long: bool) -> tuple[bytes, ...]:
    offsets = [(first_offset + 40 * chunk,) for chunk in range(_SAMPLES // 4)]
    long = media.table("co64", *((0, offset) for (offset,) in offsets))
    return (
        media.table("stsc", (1, 4, 1)),
        long if is_long else media.table("stco", *offsets),
        media.table("stts", (_SAMPLES // 2, 1), (_SAMPLES // 2, 2)),
        media.stsz(*[10] * _SAMPLES),
    )


def _object(*, in_front: bool) -> bytes:
    """Return an MP4 of a track with all tables, and a track of sound."""
    extra = (
        media.table("ctts", *((1, number % 3) for number in range(_SAMPLES))),
        media.table("stss", (1,), (13,), (25,), (37,), (49,)),
    )
    edits = media.edits((100, -1, 1 << 16), (2500, 1, 1 << 16))

    def index(start: int) -> bytes:
        video = media.trak(*_tables(start, is_long=True), *extra, edts=edits)
        sound = _tables(start + 10 * _SAMPLES, is_long=False)
        return media.moov(video, media.trak(*sound, kind="soun", number=2))

    mdat = media.box("mdat", bytes(2 * 10 * _SAMPLES))
    if in_front:
        moov = index(len(_FTYP) + len(index(0)) + 8)
        return _FTYP + moov + mdat
    return _FTYP + mdat + index(len(_FTYP) + 8)


_NUMBERS = (0, 1, 2, 7, 8, 9, 16, 60, 61, 2**31 - 1, 2**31, 2**32 - 8, 2**32 - 1)
_OBJECTS = (_object(in_front=True), _object(in_front=False))
_EDIT_BYTES, _MAX_EDITS = 8, 6
_INPUTS = st.integers(1, _MAX_EDITS).flatmap(
    lambda edits: st.binary(min_size=1 + edits * _EDIT_BYTES, max_size=1 + edits * _EDIT_BYTES).map(
        lambda choices: (_WINDOWS, choices)
    )
)


def _damaged(choices: bytes) -> bytes:
    """Return an object with changes that bytes choose: one draw is ten times as fast as many."""
    edits = []
    for at in range(1, len(choices) - _EDIT_BYTES + 1, _EDIT_BYTES):
        kind, place, put = choices[at], choices[at + 1 : at + 4], choices[at + 4 : at + 8]
        removed = 4
        if kind < 128:
            put = _NUMBERS[kind % len(_NUMBERS)].to_bytes(4, "big")
        elif kind >= 192:  # bytes are removed or inserted
            put, removed = put[: kind % 5], put[3] * (kind % 3)
        edits.append(Edit(int.from_bytes(place, "big") >> 4, removed, put))
    return edited(_OBJECTS[choices[0] % 2], edits)


def _draw(chance: random.Random) -> _Input:
    """Return an input with one window: all five take five times as long as the index."""
    size = 1 + chance.randint(1, _MAX_EDITS) * _EDIT_BYTES
    return (chance.choice(_WINDOWS),), chance.randbytes(size)


def _check(value: _Input, _: Path) -> None:
    """There is an index or a MediaError, within CPU_S, and no byte outside of the object."""
    windows, choices = value
    data = _damaged(choices)
    if _cpu_s(data, windows) > CPU_S:
        assert _cpu_s(data, windows) <= CPU_S  # the first time may have been a garbage collection


def _cpu_s(data: bytes, windows: _Windows) -> float:
    start_s = time.process_time()
    _read(data, windows)
    return time.process_time() - start_s


def _read(data: bytes, windows: _Windows) -> None:
    def read(offset: int, length: int) -> bytes:
        assert 0 <= offset < offset + length <= len(data)
        return data[offset : offset + length]

    try:
        index = read_index(len(data), read)
    except MediaError as error:
        assert_clear(error)
    else:
        _assert_inside(index, len(data), windows)


def _assert_inside(index: MediaIndex, size: int, windows: _Windows) -> None:
    for track in index.tracks:
        samples = track.samples
        assert samples.offsets.min() >= 0
        assert (samples.offsets + samples.sizes).max() <= size
        assert track.shown.start <= track.shown.stop
    frames = media.key_frames(index.video)
    assert len(frames.times) == len(frames.offsets) > 0
    assert frames.stop <= size
    for start_s, stop_s in windows:
        end = 0
        for place in index.byte_ranges(start_s, stop_s):
            assert end <= place.start < place.stop <= size
            end = place.stop + 1
        with suppress(ValueError):  # no picture begins there
            _assert_usable(cut(index, start_s, stop_s), size)


def _assert_usable(made: Cut, size: int) -> None:
    """The cut is of bytes of the object, and its own index can be used."""
    assert all(0 <= piece.start < piece.stop <= size for piece in made.pieces)
    assert made.size <= size + len(made.header)
    assert made.seconds > 0
    read_index(made.size, lambda at, length: (made.header + bytes(made.size))[at : at + length])


TARGETS = (Target("media-index", _INPUTS, _check, examples=400, draw=_draw, needs_directory=False),)
