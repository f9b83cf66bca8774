"""A cut presents the pictures and the sound of its window, bit for bit, and nothing else."""

from __future__ import annotations

import io
import random
import subprocess
from typing import NamedTuple

import av
import numpy as np
import pytest

from ego4dfs.errors import MediaError
from ego4dfs.media import Cut, IndexBytes, MediaIndex, cut, parse_index, read_index
from ego4dfs.media.cut import MAX_GAP_BYTES, READ_BYTES
from kit import media

pytestmark = pytest.mark.first_pass

EVERY_FORM = pytest.mark.parametrize("form", media.FORMS)
WITH_SOUND = pytest.mark.parametrize("form", [form for form in media.FORMS if form != "no sound"])
FRAME_S = 1 / media.RATE


def index_of(data: bytes) -> MediaIndex:
    return read_index(len(data), lambda offset, length: data[offset : offset + length])


def clip(data: bytes, start_s: float, stop_s: float) -> bytes:
    made = cut(index_of(data), start_s, stop_s)
    content = b"".join(made.content(lambda offset, length: data[offset : offset + length]))
    assert len(content) == made.size
    return content


def pictures(data: bytes) -> list[tuple[float, bytes]]:
    with av.open(io.BytesIO(data)) as container:
        return [(frame.time, frame.to_ndarray().tobytes()) for frame in container.decode(video=0)]


def sound(data: bytes) -> dict[int, float]:
    """Return the value of each sample of sound, by its number from the start of the movie."""
    found: dict[int, float] = {}
    with av.open(io.BytesIO(data)) as container:
        for frame in container.decode(audio=0):
            first = round(frame.time * frame.sample_rate)
            found |= dict(enumerate(frame.to_ndarray()[0].tolist(), first))
    return found


def windows(form: str, count: int) -> list[tuple[float, float]]:
    """Return windows that begin and end at any time, and some that do so with a picture."""
    rng, index = random.Random(form), index_of(media.form(form))
    first = round(index.start_s * media.RATE)
    found = []
    for number in range(count):
        start = rng.uniform(first, media.SECONDS * media.RATE - 6)
        length = rng.uniform(2, 50)
        if number % 2:
            start, length = round(start), round(length)
        found.append((start * FRAME_S, min(index.stop_s, (start + length) * FRAME_S)))
    return found


@pytest.fixture
def examples(request) -> int:
    """Return the number of windows of each form: `--examples`, or a few."""
    return request.config.getoption("--examples") or 8


@EVERY_FORM
def test_the_pictures_are_those_of_the_window(form, examples):
    data = media.form(form)
    whole = pictures(data)
    tick_s = 1 / index_of(data).video.timescale
    for start_s, stop_s in windows(form, examples):
        wanted = [
            (time - start_s, picture)
            for time, picture in whole
            if start_s - tick_s / 2 <= time < stop_s - tick_s / 2
        ]
        found = pictures(clip(data, start_s, stop_s))
        assert [picture for _, picture in found] == [picture for _, picture in wanted]
        times = np.array([time for time, _ in found]) - [time for time, _ in wanted]
        assert np.abs(times).max() <= tick_s


@WITH_SOUND
def test_the_sound_is_that_of_the_window(form, examples):
    """At the start, the first packet is before the time from which the edit list presents it."""
    data = media.form(form)
    whole = sound(data)
    for start_s, stop_s in [(0, 1), (FRAME_S, 1), *windows(form, examples)]:
        found, first = sound(clip(data, start_s, stop_s)), round(start_s * 16_000)
        assert set(found) >= set(range(round(stop_s * 16_000) - first))
        assert {number + first: value for number, value in found.items()}.items() <= whole.items()


@EVERY_FORM
def test_the_packets_of_video_are_those_that_ffmpeg_copies(form, tmp_path):
    """FFmpeg ends later: it compares the end with times of decoding."""
    data = media.form(form)
    source = tmp_path / "whole"
    source.write_bytes(data)
    for number, (start_s, stop_s) in enumerate([(2.0, 2.5), (1.5, 3.1), (0.9, 1.2)]):
        target = tmp_path / f"{number}.mp4"
        times = ["-ss", str(start_s), "-i", source, "-t", f"{stop_s - start_s:.6f}"]
        line = ["ffmpeg", "-v", "error", *times, "-c", "copy", target]
        subprocess.run(line, check=True, stdin=subprocess.DEVNULL)
        theirs = packets(target.read_bytes())
        ours = packets(clip(data, start_s, stop_s))
        assert [p.data for p in ours] == [p.data for p in theirs[: len(ours)]]
        assert [p.is_key for p in ours] == [p.is_key for p in theirs[: len(ours)]]
        assert len(theirs) - len(ours) <= 4
        differences = [p.time_s - q.time_s for p, q in zip(ours, theirs, strict=False)]
        assert max(map(abs, differences)) < 0.001


class Packet(NamedTuple):
    data: bytes
    is_key: bool
    time_s: float


def packets(data: bytes) -> list[Packet]:
    with av.open(io.BytesIO(data)) as container:
        return [
            Packet(bytes(packet), packet.is_keyframe, float(packet.pts * packet.time_base))
            for packet in container.demux(video=0)
            if packet.pts is not None
        ]


@EVERY_FORM
def test_a_cut_starts_with_a_key_frame_and_has_no_other_group_before(form):
    data = media.form(form)
    for start_s, stop_s in windows(form, 6):
        frames = media.key_frames(index_of(clip(data, start_s, stop_s)).video)
        timescale = index_of(data).video.timescale
        before = [time for time in frames.times.tolist() if time <= 0]
        assert len(before) <= 1, (start_s, stop_s, frames.times / timescale)
        assert frames.times[0] == before[0] if before else start_s < 1


def test_equal_windows_have_equal_bytes():
    data = media.form("h264")
    assert clip(data, 1.1, 2.3) == clip(data, 1.1, 2.3)


@pytest.mark.parametrize("tool", ["ffprobe", "ffmpeg"])
def test_other_programs_find_no_mistake(tool, tmp_path):
    for form in set(media.FORMS) - {"open groups of pictures"}:  # which warns after each seek
        path = tmp_path / f"{form}.mp4"
        path.write_bytes(clip(media.form(form), 1.13, 2.4))
        output = ["-f", "null", "-"] if tool == "ffmpeg" else ["-show_packets", "-count_frames"]
        line = [tool, "-v", "warning", "-i", path, *output]
        done = subprocess.run(
            line, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
        )
        assert done.stderr == "", form


def test_a_cut_of_a_cut_is_that_of_the_whole():
    data = media.form("b-frames")
    inner = clip(clip(data, 0.5, 3.5), 1.0, 2.0)
    assert [picture for _, picture in pictures(inner)] == [
        picture for _, picture in pictures(clip(data, 1.5, 2.5))
    ]


@pytest.mark.parametrize("times", [(-1, 1), (2, 1), (1, 1), (float("nan"), 2), (1, float("inf"))])
def test_times_that_are_no_window_are_value_errors(times):
    with pytest.raises(ValueError, match="is not a window"):
        cut(index_of(media.form("no sound")), *times)


def test_a_window_without_a_picture_is_a_value_error():
    later = index_of(media.form("pictures begin later"))
    for times in [(0, 0.5), (1e6, 1e9), (1.001, 1.002)]:
        with pytest.raises(ValueError, match="no picture begins"):
            cut(later, *times)


def test_a_window_over_the_end_stops_there():
    made = cut(index_of(media.form("no sound")), 3.5, 1e6)
    assert made.seconds == pytest.approx(0.5)


def test_a_track_that_begins_in_the_window_begins_as_late_in_the_cut():
    data = media.form("pictures begin later")
    assert pictures(clip(data, 0.2, 1.2))[0][0] == pytest.approx(0.5, abs=1e-4)


# What cannot be made with an encoder.


def synthetic(offsets: list[int], *, size: int, samples: int = 1, sample_bytes: int = 10) -> Cut:
    """Return a cut of a whole video whose chunks are at these offsets."""
    count = samples * len(offsets)
    tables = (
        media.table("stsc", (1, samples, 1)),
        media.box(
            "co64",
            bytes(4),
            len(offsets).to_bytes(4, "big"),
            *(offset.to_bytes(8, "big") for offset in offsets),
        ),
        media.table("stts", (count, 1)),
        media.stsz(count, constant=sample_bytes),
    )
    index = parse_index(IndexBytes(size, 0, media.moov(media.trak(*tables))))
    return cut(index, 0, count / 30)


def test_adjacent_chunks_are_one_piece():
    assert synthetic([100, 110, 130], size=200).pieces == (range(100, 120), range(130, 140))


def test_samples_without_bytes_are_in_no_piece():
    tables = (media.table("stsc", (1, 3, 1)), media.table("stco", (100,)))
    sizes = {"first": (0, 5, 5), "all": (0, 0, 0)}
    pieces = {}
    for name, each in sizes.items():
        track = media.trak(*tables, media.table("stts", (3, 1)), media.stsz(*each))
        made = cut(parse_index(IndexBytes(200, 0, media.moov(track))), 0, 1)
        content = b"".join(made.content(lambda _offset, length: bytes(length)))
        assert index_of(content).video.samples.sizes.tolist() == list(each)
        pieces[name] = made.pieces
    assert pieces == {"first": (range(100, 110),), "all": ()}


def test_chunks_in_any_order_keep_the_order_of_samples():
    made = synthetic([300, 100, 200], size=1000)
    whole = bytes(offset // 100 for offset in range(1000))
    assert made.pieces == (range(100, 110), range(200, 210), range(300, 310))
    data = b"".join(made.content(lambda offset, length: whole[offset : offset + length]))
    samples = index_of(data).video.samples
    assert [data[offset] for offset in samples.offsets] == [3, 1, 2]


def test_a_cut_of_more_than_4_gib_has_long_offsets():
    made = synthetic([0, 5 << 30], size=10 << 30, sample_bytes=(4 << 30) - 1)
    assert b"co64" in made.header
    assert made.size == len(made.header) + 2 * ((4 << 30) - 1)
    index = read_index(
        made.size, lambda offset, length: (made.header + bytes(length))[offset:][:length]
    )
    assert index.video.samples.offsets[0] == len(made.header)


def reads_of(made: Cut) -> list[range]:
    reads = []

    def read(offset: int, length: int) -> bytes:
        reads.append(range(offset, offset + length))
        return bytes(length)

    assert sum(map(len, made.content(read))) == made.size
    return reads


def test_near_pieces_are_read_at_once_and_far_ones_are_not():
    near, far = 100 + 10 + MAX_GAP_BYTES, 10**7
    made = synthetic([100, near, far], size=2 * 10**7)
    assert reads_of(made) == [range(100, near + 10), range(far, far + 10)]


def test_a_long_piece_is_read_in_steps():
    made = synthetic([0], size=10**9, samples=7, sample_bytes=10 << 20)
    assert [len(read) for read in reads_of(made)] == [READ_BYTES, READ_BYTES, 6 << 20]


def test_a_file_that_ends_early_is_an_error():
    made = synthetic([100], size=200)
    with pytest.raises(MediaError, match="stops at"):
        list(made.content(lambda _offset, length: bytes(length - 1)))


def test_a_window_in_too_many_pieces_is_refused(monkeypatch):
    monkeypatch.setitem(cut.__globals__, "MAX_PIECES", 1)
    with pytest.raises(MediaError, match=r"in \d+ pieces; the limit is 1"):
        cut(index_of(media.apart()), 1, 2)
