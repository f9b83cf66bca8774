"""A mounted release looks and reads like a download of it."""

from __future__ import annotations

import errno
import mmap
import os
import random
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
import pytest

from kit.data import MIB
from kit.mounts import SharedMount, status
from kit.server import SHARING

pytestmark = pytest.mark.fuse

PROMISED = {
    *("pid", "uptime_s", "requests", "bytes_fetched", "bytes_served", "hits", "misses"),
    "bytes_from_copies",
    *("evictions", "cache_bytes", "cache_limit_bytes", "errors", "last_error", "offline"),
    *("throttled", "throttled_answers"),
}


def last_modified_ns(shared_mount: SharedMount, name: str) -> int:
    key = f"public/{shared_mount.release.version}/objects/annotations/{name}"
    head = obstore.head(shared_mount.release.server.store(SHARING), key)
    return int(head["last_modified"].timestamp()) * 10**9


def test_the_tree_has_the_names_of_a_download(shared_mount):
    found = {
        (str(Path(top).relative_to(shared_mount.root)), *sorted(dirs), *sorted(names))
        for top, dirs, names in os.walk(shared_mount.root)
    }
    version = shared_mount.release.version
    assert found == {
        (".", version, "ego4d.json"),
        (version, "annotations", "ego4d.json"),
        (f"{version}/annotations", *sorted(shared_mount.files)),
    }


def test_a_file_has_the_attributes_of_its_object(shared_mount):
    for name in ("narration.json", "nothing.json", "odd.pt", "large.mp4"):
        found = (shared_mount.directory / name).stat()
        size = len(shared_mount.files[name])
        assert stat.S_ISREG(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o644
        assert (found.st_uid, found.st_gid, found.st_nlink) == (os.geteuid(), os.getegid(), 1)
        assert (found.st_size, found.st_blocks) == (size, -(-size // 512))
        assert found.st_mtime_ns == last_modified_ns(shared_mount, name)


def test_a_directory_has_the_attributes_of_a_directory(shared_mount):
    for path in (shared_mount.root, shared_mount.directory.parent, shared_mount.directory):
        found = path.stat()
        assert stat.S_ISDIR(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o755
        assert (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())
    manifest = shared_mount.directory / "manifest.csv"
    assert shared_mount.directory.stat().st_mtime_ns == manifest.stat().st_mtime_ns


def test_a_listing_reports_inode_and_kind_as_stat_does(shared_mount):
    for top in (shared_mount.root, shared_mount.directory):
        for entry in os.scandir(top):
            found = os.stat(entry.path)
            assert entry.inode() == found.st_ino
            assert entry.is_dir(follow_symlinks=False) == stat.S_ISDIR(found.st_mode)


def test_inodes_are_the_same_after_a_remount(shared_mount, mount):
    numbers = {entry.name: entry.inode() for entry in os.scandir(shared_mount.directory)}
    again = mount(
        "--version", shared_mount.release.version, "--datasets", "annotations", env=shared_mount.env
    )
    found = os.scandir(again / shared_mount.release.version / "annotations")
    assert {entry.name: entry.inode() for entry in found} == numbers
    assert len(set(numbers.values())) == len(shared_mount.files)


def test_statfs_reports_the_known_sizes_and_no_free_space(shared_mount):
    for name in shared_mount.files:
        (shared_mount.directory / name).stat()
    found = os.statvfs(shared_mount.root)
    assert found.f_blocks * found.f_frsize >= sum(map(len, shared_mount.files.values())) - MIB
    assert (found.f_bfree, found.f_bavail, found.f_ffree) == (0, 0, 0)
    assert found.f_flag & os.ST_RDONLY


def test_extended_attributes_name_the_source_of_the_bytes(shared_mount):
    path = shared_mount.directory / "odd.pt"
    path.stat()
    key = f"public/{shared_mount.release.version}/objects/annotations/odd.pt"
    etag = obstore.head(shared_mount.release.server.store(SHARING), key)["e_tag"].strip('"')
    uri = f"s3://{SHARING}/{key}"
    assert os.getxattr(path, "user.ego4dfs.s3_uri").decode() == uri
    assert os.getxattr(path, "user.ego4dfs.etag").decode() == etag
    assert {"user.ego4dfs.s3_uri", "user.ego4dfs.etag"} <= set(os.listxattr(path))
    assert os.listxattr(shared_mount.directory) == []


def test_attributes_of_another_kind_are_not_supported(shared_mount):
    """`ls -l` then sends one request for each mount, and not one for each file."""
    for name in ("system.posix_acl_access", "security.selinux", "security.capability"):
        with pytest.raises(OSError, match="not supported"):
            os.getxattr(shared_mount.directory / "odd.pt", name)


@pytest.mark.parametrize("name", ["user.other", "user.ego4dfs.other"])
def test_an_unknown_extended_attribute_is_no_data(shared_mount, name):
    for path in (shared_mount.directory, shared_mount.directory / "odd.pt"):
        with pytest.raises(OSError, match="No data") as caught:
            os.getxattr(path, name)
        assert caught.value.errno == errno.ENODATA


def test_the_status_file_exists_but_is_not_listed(shared_mount):
    assert ".ego4dfs" not in os.listdir(shared_mount.root)
    assert os.listdir(shared_mount.root / ".ego4dfs") == []
    found = status(shared_mount.root)
    assert set(found) >= PROMISED
    assert set(found["requests"]) == {"head", "get", "manifest"}
    assert found["offline"] is False
    assert found["cache_limit_bytes"] == 256 * MIB
    assert Path(f"/proc/{found['pid']}/comm").exists()


def test_each_open_of_the_counters_shows_current_values(shared_mount):
    before = status(shared_mount.root)
    (shared_mount.directory / "odd.pt").read_bytes()
    with (shared_mount.directory / "large.mp4").open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.read(MIB)
    after = status(shared_mount.root)
    assert after["uptime_s"] > before["uptime_s"]
    assert after["bytes_served"] > before["bytes_served"]


def test_whole_files_are_the_bytes_of_their_objects(shared_mount):
    for name, data in shared_mount.files.items():
        assert (shared_mount.directory / name).read_bytes() == data


def test_a_map_of_a_file_is_its_bytes_and_cannot_be_written(shared_mount):
    with (shared_mount.directory / "odd.pt").open("rb") as file:
        for flags in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
            with mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ) as mapped:
                assert mapped[:] == shared_mount.files["odd.pt"]
        with pytest.raises(PermissionError):
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def test_handles_of_one_file_have_their_own_positions(shared_mount):
    data = shared_mount.files["large.mp4"]
    path = shared_mount.directory / "large.mp4"
    with path.open("rb") as one, path.open("rb") as other:
        one.seek(7 * MIB)
        assert other.read(1000) == data[:1000]
        assert one.read(1000) == data[7 * MIB : 7 * MIB + 1000]
        one.close()
        assert other.read(1000) == data[1000:2000]


def test_direct_reads_are_the_same_bytes(shared_mount):
    data = shared_mount.files["odd.pt"]
    fd = os.open(shared_mount.directory / "odd.pt", os.O_RDONLY | os.O_DIRECT)
    try:
        buffer = mmap.mmap(-1, 2 * MIB)
        assert os.preadv(fd, [buffer], MIB) == 2 * MIB
        assert buffer[:] == data[MIB : 3 * MIB]
        assert os.preadv(fd, [buffer], 3 * MIB) == 17
        assert buffer[:17] == data[3 * MIB :]
    finally:
        os.close(fd)


def test_random_reads_by_many_threads_return_the_right_bytes(shared_mount):
    data = shared_mount.files["large.mp4"]
    fd = os.open(shared_mount.directory / "large.mp4", os.O_RDONLY)

    def reads_right(seed: int) -> bool:
        rng = random.Random(seed)
        for _ in range(60):
            offset = rng.choice((rng.randrange(len(data)), MIB * rng.randrange(25), len(data)))
            size = rng.choice((1, 100, 4096, 131073, 2 * MIB))
            if os.pread(fd, size, offset) != data[offset : offset + size]:
                return False
        return True

    try:
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(reads_right, range(8)))
    finally:
        os.close(fd)


def test_seeks_are_relative_to_start_position_and_end(shared_mount):
    data = shared_mount.files["odd.pt"]
    with (shared_mount.directory / "odd.pt").open("rb") as file:
        assert file.seek(-17, os.SEEK_END) == 3 * MIB
        assert file.read() == data[-17:]
        assert file.read() == b""
        file.seek(-1000, os.SEEK_CUR)
        assert file.read(10) == data[-1000:-990]
        file.seek(10 * MIB)
        assert file.read(1) == b""


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("nowhere", errno.ENOENT),
        ("{v}/annotations/nowhere.json", errno.ENOENT),
        ("{v}/annotations/odd.pt/below", errno.ENOTDIR),
        ("{v}/annotations/\udcff.json", errno.ENOENT),
    ],
)
def test_a_path_that_is_not_listed_does_not_exist(shared_mount, path, number):
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        os.stat(f"{shared_mount.root}/{path.format(v=shared_mount.release.version)}")
    assert caught.value.errno == number


def test_a_directory_is_not_a_file_and_a_file_is_not_a_directory(shared_mount):
    with pytest.raises(IsADirectoryError):
        os.read(os.open(shared_mount.directory, os.O_RDONLY), 1)
    with pytest.raises(NotADirectoryError):
        os.listdir(shared_mount.directory / "odd.pt")
