"""Pictures and times of windows in a mount are those of the whole video, for each form of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from ego4dfs.media import read_index
from kit import media

pytestmark = pytest.mark.fuse

UIDS = {form: f"{number:08x}" for number, form in enumerate(media.FORMS)}
FRAGMENTED = "ffffffff"
SEEK_EARLIER_S = 4 / media.RATE
"""FFmpeg seeks by times of decoding: with B-frames they are before those of presentation."""
Pictures = list[tuple[float, bytes]]


@pytest.fixture
def root(mount, release) -> Path:
    files = {f"{uid}.mp4": media.form(form) for form, uid in UIDS.items()}
    files[f"{FRAGMENTED}.mp4"] = media.encode(movflags="+frag_keyframe")
    release.dataset("full_scale", files)
    return mount("--version", release.version, "--datasets", "full_scale")


@pytest.fixture
def count(request) -> int:
    """Return the number of windows of each form: `--examples`, or a few."""
    return request.config.getoption("--examples") or 3


def windows(form: str, count: int) -> Iterator[tuple[float, float]]:
    """Yield windows that begin and end between the beginnings of two pictures, to a microsecond."""
    rng = random.Random(form)
    for _ in range(count):
        first = rng.randrange(25, (media.SECONDS - 1) * media.RATE)
        last = first + rng.randrange(1, media.RATE)
        times = [(number + rng.uniform(0.1, 0.9)) / media.RATE for number in (first, last)]
        yield round(times[0], 6), round(times[1], 6)


def decoded(file: Path, start_s: float = 0, end_s: float = float("inf")) -> Pictures:
    """Return time and content of the pictures of a window; a window is sought."""
    found = []
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        if start_s:
            container.seek(int((start_s - SEEK_EARLIER_S) / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            if start_s <= frame.time < end_s:
                found.append((frame.time, frame.to_ndarray().tobytes()))
            elif frame.time >= end_s:
                break
    return found


def whole(data: bytes, directory: Path) -> Pictures:
    file = directory / "whole.mp4"
    file.write_bytes(data)
    return decoded(file)


def within(pictures: Pictures, start_s: float, end_s: float) -> Pictures:
    return [(time, picture) for time, picture in pictures if start_s <= time < end_s]


def test_a_window_that_is_sought_has_the_pictures_and_times_of_the_whole_video(
    root, release, tmp_path, count
):
    top = root / release.version / "full_scale"
    for form, uid in UIDS.items():
        expected = whole(media.form(form), tmp_path)
        for times in windows(form, count):
            assert decoded(top / f"{uid}.mp4", *times) == within(expected, *times), (form, times)


def test_a_fragmented_video_has_the_pictures_and_times_of_the_whole_video(
    root, release, tmp_path, count
):
    file = root / release.version / "full_scale" / f"{FRAGMENTED}.mp4"
    expected = whole(media.encode(movflags="+frag_keyframe"), tmp_path)
    for times in windows("fragmented", count):
        assert decoded(file, *times) == within(expected, *times), times


def test_a_virtual_clip_has_the_pictures_of_the_whole_video_and_its_times_from_the_start(
    root, tmp_path, count
):
    for form, uid in UIDS.items():
        data = media.form(form)
        index = read_index(len(data), lambda at, length, data=data: data[at : at + length])
        tick_s = 1 / index.video.timescale
        expected = whole(data, tmp_path)
        for start_s, end_s in windows(form, count):
            wanted = within(expected, start_s, end_s)
            file = root / ".ego4dfs/windows" / uid / f"{start_s:.6f}-{end_s:.6f}.mp4"
            found = decoded(file)
            assert [p for _, p in found] == [p for _, p in wanted], (form, start_s, end_s)
            for (time, _), (at, _) in zip(found, wanted, strict=True):
                assert abs(time + start_s - at) <= tick_s, (form, start_s, end_s)
