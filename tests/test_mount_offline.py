"""Without the server, without a valid key, or from a mirror: cached bytes stay readable."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from kit.data import MIB, seeded
from kit.gateway import Gateway
from kit.mounts import status
from kit.processes import wait_until

pytestmark = pytest.mark.fuse


@pytest.fixture
def gateway(server, licensee, monkeypatch):
    """A gateway between mounts and the server that can be stopped."""
    with Gateway(server.endpoint_url) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", between.url)
        yield between


def drop_pages(path: Path) -> None:
    """Drop a file from the page cache, so that reads reach the mount."""
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def error_of(call) -> int:
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        call()
    return caught.value.errno


def test_a_mount_works_offline_with_what_was_fetched_and_recovers(gateway, mount, release):
    data = {"read.mp4": seeded("read", 3 * MIB), "other.mp4": seeded("other", 2 * MIB)}
    release.dataset("clips", data)
    arguments = ("--version", release.version, "--datasets", "clips")
    root = mount(*arguments)
    clips = root / release.version / "clips"
    assert (clips / "read.mp4").read_bytes() == data["read.mp4"]
    mount.unmount(root)
    gateway.stop()

    mount.again(root, *arguments)
    assert sorted(os.listdir(clips)) == ["manifest.csv", "other.mp4", "read.mp4"]
    assert (clips / "read.mp4").read_bytes() == data["read.mp4"]
    assert (clips / "manifest.csv").stat().st_size > 0
    assert error_of((clips / "other.mp4").read_bytes) == errno.EIO
    found = status(root)
    assert found["offline"] is True
    assert found["bytes_fetched"] == 0
    assert found["errors"] > 0
    assert "other.mp4" in found["last_error"]

    gateway.start()
    wait_until(lambda: readable(clips / "other.mp4"))
    assert (clips / "other.mp4").read_bytes() == data["other.mp4"]
    assert status(root)["offline"] is False


def readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        time.sleep(0.3)
        return False
    return True


def test_all_datasets_are_mounted_offline_if_one_manifest_is_cached(gateway, mount, release):
    release.dataset("annotations", {"a.json": b"{}"})
    root = mount("--version", release.version)
    assert (root / release.version / "annotations/a.json").read_bytes() == b"{}"
    mount.unmount(root)
    gateway.stop()
    mount.again(root, "--version", release.version)
    assert (root / release.version / "annotations/a.json").read_bytes() == b"{}"
    assert error_of(lambda: os.listdir(root / release.version / "clips")) == errno.EIO


def test_a_server_that_goes_away_during_a_read_is_an_error_in_bounded_time(gateway, mount, release):
    data = seeded("long", 24 * MIB)
    release.dataset("clips", {"a.mp4": data})
    root = mount("--version", release.version, "--datasets", "clips")
    path = root / release.version / "clips/a.mp4"
    with path.open("rb") as file:
        assert os.pread(file.fileno(), 1000, 0) == data[:1000]
        gateway.stop()
        assert error_of(lambda: os.pread(file.fileno(), 1000, 20 * MIB)) == errno.EIO
        # The next ones fail at once, without a request of their own.
        before = status(root)["requests"]["get"]
        for offset in range(12, 20):
            assert error_of(lambda at=offset: os.pread(file.fileno(), 100, at * MIB)) == errno.EIO
        assert status(root)["requests"]["get"] - before <= 4
        assert os.pread(file.fileno(), 1000, 5000) == data[5000:6000]


def test_a_renewed_key_works_without_a_remount(gateway, mount, release, licensee, monkeypatch):
    release.dataset("clips", {"a.mp4": b"a" * 1000, "b.mp4": b"b" * 1000})
    old, new = "AKIAEXPIRED", licensee["AWS_ACCESS_KEY_ID"]
    files = Path(licensee["HOME"]) / ".aws"
    files.mkdir()
    lines = "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n"
    (files / "credentials").write_text(lines.format(new, licensee["AWS_SECRET_ACCESS_KEY"]))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    root = mount("--version", release.version, "--datasets", "clips")
    clips = root / release.version / "clips"
    assert (clips / "a.mp4").read_bytes() == b"a" * 1000

    gateway.faults.rejected_keys = {new: "ExpiredToken", old: "ExpiredToken"}
    assert error_of((clips / "b.mp4").read_bytes) == errno.EACCES
    assert "expired" in status(root)["last_error"]
    drop_pages(clips / "a.mp4")
    assert (clips / "a.mp4").read_bytes() == b"a" * 1000

    gateway.faults.rejected_keys = {}  # Ego4D has renewed the licence, and the user the file
    (files / "credentials").write_text(lines.format(new, licensee["AWS_SECRET_ACCESS_KEY"]) + "\n")
    assert (clips / "b.mp4").read_bytes() == b"b" * 1000


@pytest.mark.parametrize("form", ["path", "relative", "url"])
def test_a_mirror_in_a_directory_replaces_s3(mount, tmp_path, monkeypatch, form, licensee):
    for name in licensee:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    sharing = tmp_path / "mirror/ego4d-consortium-sharing/public/v2"
    (sharing / "clips").mkdir(parents=True)
    (tmp_path / "mirror/ego4d-cmu/v1").mkdir(parents=True)
    data = seeded("mirrored", 2 * MIB + 3)
    (tmp_path / "mirror/ego4d-cmu/v1/a.mp4").write_bytes(data)
    manifest = b"video_uid,type,s3_path\na,video,s3://ego4d-cmu/v1/a.mp4\n"
    (sharing / "clips/manifest.csv").write_bytes(manifest)
    (sharing / "ego4d.json").write_bytes(b"{}")
    monkeypatch.chdir(tmp_path)
    mirror = tmp_path / "mirror"
    source = {"path": str(mirror), "relative": "./mirror", "url": mirror.as_uri()}[form]
    root = mount("--source", source, "--version", "v2", "--datasets", "clips")
    assert (root / "v2/clips/a.mp4").read_bytes() == data
    assert (root / "v2/clips/manifest.csv").read_bytes() == manifest
    assert (root / "ego4d.json").read_bytes() == (root / "v2/ego4d.json").read_bytes() == b"{}"
    # ETags of a mirror are its own; the S3 URI is what the manifest says.
    assert os.getxattr(root / "v2/clips/a.mp4", "user.ego4dfs.s3_uri") == b"s3://ego4d-cmu/v1/a.mp4"
