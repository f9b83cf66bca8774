"""The MP4 of a window as a file: its bytes at any offset, and what it requests."""

from __future__ import annotations

import random

import pytest

from ego4dfs.blocks import PART_SIZE
from ego4dfs.errors import ObjectChanged
from ego4dfs.media import AFTER_END_S
from ego4dfs.media.cut import READ_BYTES
from ego4dfs.reader import GROUP_REQUEST_BYTES, downloads
from ego4dfs.vfs import VFS
from ego4dfs.vfs.video import Video, open_video
from ego4dfs.vfs.window_file import WindowFile
from kit import media
from kit.data import MIB
from kit.processes import wait_until

LONG_S = 90
FILES = {"apart": media.apart, "mean": lambda: media.long_video(LONG_S, 1)}


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    made = {name: make() for name, make in FILES.items()}
    return made | {"sound": media.form("index at the end")}


@pytest.fixture
def little_memory(monkeypatch) -> None:
    """Let one request at a time have memory, in trees that are opened afterwards."""
    monkeypatch.setattr(downloads, "MAX_INFLIGHT_BYTES", 1)


@pytest.fixture
def vfs(open_tree, release, files) -> VFS:
    release.dataset("full_scale", {f"{name}.mp4": data for name, data in files.items()})
    return open_tree(version=release.version, datasets=["full_scale"], metadata=False)


@pytest.fixture
def opened(vfs, release):
    def one(name: str) -> Video:
        return open_video(vfs, f"{release.version}/full_scale/{name}.mp4")

    return one


def gets(vfs: VFS) -> int:
    return int(vfs.session.metrics.requests["get"])


def local(video: Video, data: bytes, start_s: float, end_s: float) -> bytes:
    made = video.cut(start_s, end_s)
    return b"".join(made.content(lambda offset, length: data[offset : offset + length]))


@pytest.mark.parametrize("name", ["apart", "mean", "sound"])
def test_it_has_the_bytes_of_the_cut_at_any_offset(opened, files, name):
    video, rng = opened(name), random.Random(name)
    for start_s, end_s in [(0, 4), (1.1, 1.4), (0.5, 3.2)]:
        expected = local(video, files[name], start_s, end_s)
        file = WindowFile(video, video.cut(start_s, end_s))
        assert file.size == len(expected)
        for _ in range(30):
            offset = rng.randrange(file.size)
            length = rng.choice([0, 1, 100, 128 << 10, file.size])
            assert file.read(offset, length) == expected[offset : offset + length]
        assert file.read(0, file.size + 9) == expected
        assert file.read(file.size, 1) == file.read(file.size + 5, 1) == b""


def test_the_first_read_requests_all_of_it_at_once(opened, vfs, files):
    """Sound and pictures are in two places, and the reader has read the header only."""
    video = opened("apart")
    before, bytes_before = gets(vfs), vfs.session.metrics.bytes_fetched
    file = WindowFile(video, video.cut(1.5, 2.4))
    assert gets(vfs) == before
    file.read(0, 100)
    wait_until(lambda: vfs.session.reader.downloads.in_flight == 0)
    requests = gets(vfs) - before
    assert 2 <= requests <= 2 + file.size / GROUP_REQUEST_BYTES
    assert file.read(0, file.size) == local(video, files["apart"], 1.5, 2.4)
    assert gets(vfs) == before + requests
    assert vfs.session.metrics.bytes_fetched - bytes_before <= file.size + 4 * PART_SIZE


def test_small_reads_of_a_window_fetch_little_more_than_it_needs(opened, vfs, files):
    video = opened("mean")
    before = vfs.session.metrics.bytes_fetched
    needed = 0
    for start_s in (20, 41, 60.5):
        made = video.cut(start_s, start_s + 2)
        file = WindowFile(video, made)
        needed += sum(map(len, made.pieces))
        step = 128 << 10
        found = b"".join(file.read(offset, step) for offset in range(0, file.size, step))
        assert found == local(video, files["mean"], start_s, start_s + 2)
    assert vfs.session.metrics.bytes_fetched - before <= 1.3 * needed


def test_a_window_that_was_read_is_not_fetched_again(opened, vfs):
    video = opened("apart")
    first = WindowFile(video, video.cut(1, 2))
    data = first.read(0, first.size)
    before = gets(vfs)
    again = opened("apart")
    assert WindowFile(again, again.cut(1, 2)).read(0, first.size) == data
    assert gets(vfs) == before


def test_a_long_file_is_read_ahead_and_a_seek_in_it_fetches_little(opened, vfs, files):
    video = opened("mean")
    file = WindowFile(video, video.cut(0, LONG_S))
    assert file.size > READ_BYTES
    before, fetched = gets(vfs), vfs.session.metrics.bytes_fetched
    file.read(file.size // 2, 1000)
    assert vfs.session.metrics.bytes_fetched - fetched <= 2 * MIB + PART_SIZE
    expected, step = local(video, files["mean"], 0, LONG_S), 128 << 10
    found = b"".join(file.read(offset, step) for offset in range(0, file.size, step))
    assert found == expected
    assert gets(vfs) - before < file.size / step / 8


@pytest.mark.parametrize(("name", "end_s"), [("apart", 4), ("mean", LONG_S)])
def test_what_has_no_room_in_memory_is_requested_by_later_reads(
    little_memory, opened, files, name, end_s
):
    del little_memory
    video = opened(name)
    file = WindowFile(video, video.cut(0, end_s))
    found = b"".join(file.read(offset, MIB) for offset in range(0, file.size, MIB))
    assert found == local(video, files[name], 0, end_s)


def test_a_replaced_video_is_an_error_until_it_is_opened_again(opened, release, files):
    video = opened("apart")
    file = WindowFile(video, video.cut(1, 2))
    release.put("full_scale/apart.mp4", files["sound"])
    with pytest.raises(ObjectChanged):
        file.read(0, file.size)
    video = opened("apart")
    again = WindowFile(video, video.cut(1, 2))
    assert again.read(0, again.size) == local(video, files["sound"], 1, 2)


@pytest.mark.parametrize(
    ("start_s", "end_s", "reason"),
    [
        (2, 1, "is not a window"),
        (float("nan"), 1, "is not a window"),
        (4, 4.2, "it starts after the end of the video, 4.000 s"),
        (1, 4 + AFTER_END_S + 0.1, "it ends after the end of the video, 4.000 s"),
        (1.01, 1.02, "no picture begins"),
    ],
)
def test_a_window_that_is_not_in_the_video_is_a_value_error(opened, start_s, end_s, reason):
    with pytest.raises(ValueError, match=reason):
        opened("sound").cut(start_s, end_s)
