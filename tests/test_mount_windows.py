"""Windows of videos in a mount: the bytes of `clip`, and what programs see of them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import av
import pytest

from ego4dfs.blocks import BLOCK_SIZE, PART_SIZE
from ego4dfs.reader import GROUP_REQUEST_BYTES
from kit import media
from kit.cli import run_cli
from kit.gateway import Gateway
from kit.mounts import status

pytestmark = pytest.mark.fuse


@pytest.fixture
def gateway(server, licensee, monkeypatch):
    """A gateway between mounts and the server."""
    with Gateway(server.endpoint_url) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", between.url)
        yield between


@pytest.fixture
def root(gateway, mount, release) -> Path:
    del gateway
    files = {"aaaa.mp4": media.form("index in front"), "eeee.mp4": media.long_video(60, 1)}
    release.dataset("full_scale", {**files, "ffff.mp4": b"no video" * 100})
    return mount("--version", release.version, "--datasets", "full_scale")


def window(root: Path, uid: str, name: str) -> Path:
    return root / ".ego4dfs/windows" / uid / name


def error_of(call) -> int:
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        call()
    return caught.value.errno


def pictures(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]


def test_a_window_has_the_bytes_that_clip_writes_and_its_attributes(root, release, tmp_path):
    path, clip = window(root, "aaaa", "0:01-2.5.mp4"), tmp_path / "clip.mp4"
    run_cli("clip", "aaaa", "1", "2.5", "-o", str(clip), "--version", release.version)
    found = path.stat()
    assert path.read_bytes() == clip.read_bytes()
    assert pictures(path) == pictures(clip)
    assert found.st_size == clip.stat().st_size
    video = (root / release.version / "full_scale/aaaa.mp4").stat()
    for field in ("st_mtime_ns", "st_mode", "st_uid", "st_gid"):
        assert getattr(found, field) == getattr(video, field)
    assert found.st_ino != video.st_ino
    assert os.listxattr(path) == []


def test_a_whole_file_reader_fetches_little_more_than_the_window(root):
    path = window(root, "eeee", "20-22.mp4")
    data = path.read_bytes()
    counters = status(root)
    assert counters["requests"]["get"] <= 3 + len(data) // GROUP_REQUEST_BYTES
    assert counters["bytes_fetched"] <= len(data) + BLOCK_SIZE + 11 * PART_SIZE
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    assert path.read_bytes() == data
    assert status(root)["requests"] == counters["requests"]


def test_no_listing_shows_windows(root):
    assert ".ego4dfs" not in os.listdir(root)
    for directory in (".ego4dfs", ".ego4dfs/windows", ".ego4dfs/windows/aaaa"):
        assert (root / directory).is_dir()
        assert os.listdir(root / directory) == []
    assert (root / ".ego4dfs/status.json").is_file()


@pytest.mark.parametrize(
    ("uid", "name", "reason"),
    [
        ("zzzz", "1-2.mp4", "no video zzzz in full_scale"),
        ("aaaa", "x-2.mp4", "its start: 'x' is not a time"),
        ("aaaa", "60-62.mp4", "it starts after the end of the video, 4.000 s"),
        ("ffff", "1-2.mp4", "ffff.mp4 has no usable index"),
    ],
)
def test_what_is_no_window_does_not_exist_and_the_status_says_why(root, uid, name, reason):
    assert error_of(window(root, uid, name).stat) == errno.ENOENT
    assert reason in status(root)["last_error"]
    assert window(root, "aaaa", "1-2.mp4").exists()


def test_a_name_that_is_too_long_says_so(root):
    assert error_of(window(root, "aaaa", "1" * 300).stat) == errno.ENAMETOOLONG


def test_a_replaced_video_is_stale_for_open_windows_and_new_for_the_next_open(root, release):
    path = window(root, "eeee", "1-2.mp4")
    old = path.stat().st_size
    with path.open("rb", buffering=0) as file:
        release.put("full_scale/eeee.mp4", media.form("index in front"))
        assert error_of(file.readall) in {errno.ESTALE, errno.EIO}
    assert pictures(path) == pictures(window(root, "aaaa", "1-2.mp4"))
    assert path.stat().st_size == len(path.read_bytes()) != old


def test_a_store_that_does_not_answer_is_an_error_of_input_and_output(root, gateway):
    read = window(root, "aaaa", "1-2.mp4")
    data = read.read_bytes()
    gateway.stop()
    assert read.read_bytes() == data
    assert error_of(window(root, "eeee", "1-2.mp4").stat) == errno.EIO
    gateway.start()
