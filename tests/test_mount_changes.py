"""Objects that are refused, appear or are replaced behind a mount: right bytes or an error."""

from __future__ import annotations

import errno
import os
import time

import pytest

from ego4dfs.vfs.objects import OPEN_REFUSAL_VALID_S
from kit.data import MIB, seeded
from kit.gateway import Gateway
from kit.mounts import status

pytestmark = pytest.mark.fuse


@pytest.fixture
def gateway(server, licensee, monkeypatch):
    """A gateway between mount and server that answers as S3 does to licensees."""
    with Gateway(server.endpoint_url) as between:
        between.faults.hide_missing = True
        monkeypatch.setenv("AWS_ENDPOINT_URL", between.url)
        yield between


def list_only(release, name: str) -> None:
    """Publish a manifest with a row whose object does not exist."""
    release.manifest("clips", f"video_uid,type,s3_path\nx,file,{release.url(f'clips/{name}')}\n")


def error_at_open(path) -> int:
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        path.open("rb")
    return caught.value.errno


def shown(mount, release):
    root = mount("--version", release.version, "--datasets", "clips")
    return root, root / release.version / "clips"


def test_a_listed_object_that_is_missing_is_visible_and_cannot_be_opened(mount, release):
    list_only(release, "late.mp4")
    _, clips = shown(mount, release)
    assert sorted(os.listdir(clips)) == ["late.mp4", "manifest.csv"]
    assert (clips / "late.mp4").stat().st_size == 0
    assert error_at_open(clips / "late.mp4") == errno.ENOENT


def test_a_listed_object_that_is_refused_says_permission_denied(gateway, mount, release):
    list_only(release, "late.mp4")
    root, clips = shown(mount, release)
    assert (clips / "late.mp4").exists()
    assert error_at_open(clips / "late.mp4") == errno.EACCES
    assert "late.mp4" in status(root)["last_error"]


def test_an_object_that_appears_is_read_whole_without_a_remount(mount, release):
    list_only(release, "late.mp4")
    _, clips = shown(mount, release)
    path = clips / "late.mp4"
    assert path.stat().st_size == 0
    assert error_at_open(path) == errno.ENOENT
    data = seeded("late", 2 * MIB + 5)
    release.put("clips/late.mp4", data)
    time.sleep(OPEN_REFUSAL_VALID_S)
    assert path.read_bytes() == data
    assert path.stat().st_size == len(data)


@pytest.mark.parametrize("size", [3 * MIB, 3 * MIB + 100, 2 * MIB])
def test_a_replaced_object_is_an_error_for_open_files_and_new_for_the_next_open(
    mount, release, size
):
    """Old pages, new pages and the old size are never mixed."""
    old, new = seeded("old", 3 * MIB), seeded("new", size)
    release.dataset("clips", {"a.mp4": old})
    _, clips = shown(mount, release)
    path = clips / "a.mp4"
    assert path.stat().st_size == len(old)
    fd = os.open(path, os.O_RDONLY)
    try:
        assert os.pread(fd, 4096, 0) == old[:4096]
        release.put("clips/a.mp4", new)
        with pytest.raises(OSError, match=r"\[Errno") as caught:
            os.pread(fd, MIB // 2, 2 * MIB + MIB // 2)
        assert caught.value.errno in {errno.ESTALE, errno.EIO}
        assert path.read_bytes() == new
        assert path.stat().st_size == len(new)
        with pytest.raises(OSError, match=r"\[Errno"):
            os.pread(fd, 4096, 0)
        assert path.read_bytes() == new
    finally:
        os.close(fd)


def test_a_malformed_manifest_affects_only_its_directory(mount, release):
    release.dataset("clips", {"a.mp4": b"a" * 1000})
    release.dataset("annotations", {"fine.json": b"{}"})
    root = mount("--version", release.version)
    assert (root / release.version / "annotations/fine.json").read_bytes() == b"{}"
    release.manifest("imu", b"\x00\x01\x02 no,table\n\xff")
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        os.listdir(root / release.version / "imu")
    assert caught.value.errno == errno.EIO
    assert "imu" in status(root)["last_error"]
    assert (root / release.version / "clips/a.mp4").read_bytes() == b"a" * 1000


def test_a_dataset_without_a_manifest_is_refused_and_the_others_are_not(gateway, mount, release):
    release.dataset("annotations", {"fine.json": b"{}"})
    root = mount("--version", release.version)
    assert "fut_loc" in os.listdir(root / release.version)
    with pytest.raises(PermissionError):
        os.listdir(root / release.version / "fut_loc")
    assert (root / release.version / "annotations/fine.json").read_bytes() == b"{}"


def test_a_bad_answer_is_an_error_and_the_next_read_is_right(gateway, mount, release):
    data = seeded("cut", 4 * MIB)
    release.dataset("clips", {"a.mp4": data})
    _, clips = shown(mount, release)
    gateway.faults.only = "a.mp4"
    gateway.faults.cut_body_at = 1000
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        (clips / "a.mp4").read_bytes()  # the open confirms the size, by 1000 bytes or by none
    assert caught.value.errno == errno.EIO
    gateway.faults.cut_body_at = None
    with (clips / "a.mp4").open("rb") as file:
        gateway.faults.cut_body_at = 1000
        with pytest.raises(OSError, match=r"\[Errno") as caught:
            os.pread(file.fileno(), 4096, 3 * MIB)
        assert caught.value.errno == errno.EIO
        gateway.faults.cut_body_at = None
        assert os.pread(file.fileno(), len(data), 0) == data


@pytest.mark.fault(
    area="answers",
    fault="a HEAD response with a wrong size",
    face="mount",
    sees="the file has its true size once it is opened, and is whole",
    deadline="at once",
)
@pytest.mark.parametrize("off", [-137, 137])
def test_a_wrong_size_is_corrected_when_the_file_is_opened(gateway, mount, release, off):
    data = seeded("whole", 2 * MIB + 500)
    release.dataset("clips", {"a.mp4": data})
    gateway.faults.head_size_off = off
    root, clips = shown(mount, release)
    path = clips / "a.mp4"
    assert path.stat().st_size == len(data) + off
    with path.open("rb", buffering=0) as file:  # the kernel reads nothing past a size it knows
        assert os.pread(file.fileno(), 200, len(data) - 100) == data[-100:]
        assert os.fstat(file.fileno()).st_size == len(data)
    assert path.read_bytes() == data
    assert path.stat().st_size == len(data)
    assert "bytes, not" in status(root)["last_error"]


def test_an_empty_file_with_a_wrong_size_is_empty_once_it_is_opened(gateway, mount, release):
    release.dataset("clips", {"a.mp4": b""})
    gateway.faults.head_size_off = 137
    _, clips = shown(mount, release)
    assert (clips / "a.mp4").stat().st_size == 137
    assert (clips / "a.mp4").read_bytes() == b""
    assert (clips / "a.mp4").stat().st_size == 0
