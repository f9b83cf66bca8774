"""The kernel's read-ahead: small for videos that are read in windows, else large."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ego4dfs.mount.kernel_readahead import KERNEL_KIB, LARGE_KIB, SMALL_KIB, KernelReadahead
from kit import media
from kit.data import MIB
from kit.mounts import status


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "read_ahead_kb"


@pytest.fixture
def readahead(file) -> KernelReadahead:
    found = KernelReadahead()
    found.attach(file)
    return found


def bdi(top: Path) -> Path:
    """Return the file with the read-ahead of a mount."""
    number = top.stat().st_dev
    return Path(f"/sys/class/bdi/{os.major(number)}:{os.minor(number)}/read_ahead_kb")


def kib(file: Path) -> int:
    return int(file.read_text())


def test_it_is_large_until_videos_were_read_in_windows(file, readahead):
    assert kib(file) == LARGE_KIB
    readahead.at_open(is_video=True)
    assert kib(file) == LARGE_KIB
    readahead.video_closed(reads_windows=True)
    readahead.at_open(is_video=True)
    assert kib(file) == SMALL_KIB


def test_it_is_small_for_a_video_whose_index_is_recorded_unless_videos_are_read_whole(
    file, readahead
):
    readahead.at_open(is_video=True, has_index=True)
    assert kib(file) == SMALL_KIB
    readahead.video_closed(reads_windows=False)
    readahead.at_open(is_video=True, has_index=True)
    assert kib(file) == LARGE_KIB


def test_it_is_large_for_other_files(file, readahead):
    readahead.video_closed(reads_windows=True)
    for is_video, expected in ((True, SMALL_KIB), (False, LARGE_KIB), (True, SMALL_KIB)):
        readahead.at_open(is_video=is_video)
        assert kib(file) == expected


@pytest.mark.parametrize(("windows", "whole", "expected"), [(8, 3, SMALL_KIB), (8, 4, LARGE_KIB)])
def test_most_of_the_last_eight_videos_count(file, readahead, windows, whole, expected):
    for reads_windows in [True] * windows + [False] * whole:
        readahead.video_closed(reads_windows=reads_windows)
    readahead.at_open(is_video=True)
    assert kib(file) == expected


def test_without_permission_nothing_is_tried_again(file, readahead):
    file.unlink()
    file.mkdir()
    readahead.video_closed(reads_windows=True)
    readahead.at_open(is_video=True)
    file.rmdir()
    readahead.at_open(is_video=True)
    assert not file.exists()


@pytest.mark.fuse
def test_windows_of_videos_are_opened_with_a_small_one_by_a_mount_of_root(mount, release, libfuse):
    video = media.long_video(60, 1)
    release.dataset("full_scale", {f"{name}.mp4": video for name in "abcd"} | {"x.json": b"{}"})
    flags = ("--version", release.version, "--datasets", "full_scale", "--libfuse", libfuse)
    top = mount(*flags) / release.version / "full_scale"
    setting = bdi(top)
    is_set = os.geteuid() == 0 and libfuse == "3"
    large, small = (LARGE_KIB, SMALL_KIB) if is_set else (KERNEL_KIB, KERNEL_KIB)
    assert kib(setting) == large
    for name in "abcd":
        with open(top / f"{name}.mp4", "rb") as opened:
            for offset in (0, len(video) - MIB, len(video) // 2):  # its index is at its end
                opened.seek(offset)
                assert opened.read(MIB) == video[offset : offset + MIB]
    (top / "x.json").read_bytes()
    assert kib(setting) == large
    with open(top / "a.mp4", "rb"):
        assert kib(setting) == small
    assert status(top.parent.parent)["errors"] == 0
    mount.unmount(top.parent.parent)
    top = mount(*flags) / release.version / "full_scale"
    with open(top / "b.mp4", "rb"):  # its index is recorded
        assert kib(bdi(top)) == small
