"""The contract of the tree: tests that VFS, mount and fsspec run unchanged.

An adapter presents each face as four calls, which raise OSError with the errno that a program
would see. A test module defines the fixture `face`, and subclasses `TreeContract`.
"""

from __future__ import annotations

import errno
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import pytest

from ego4dfs.blocks import BLOCK_SIZE
from kit.data import seeded
from kit.gateway import Gateway
from kit.server import Release

DATASETS = ("annotations", "components/imu")
METADATA = b'{"videos": []}\n'
FILES: Mapping[str, bytes] = {
    "empty.json": b"",
    "one.json": b"1",
    "border.pt": seeded("border", 2 * BLOCK_SIZE),
    "odd.pt": seeded("odd", 3 * BLOCK_SIZE + 17),
    "odd name, #1+é.json": b"{}",
}
REFUSED = "refused.json"
IMU = {"walk.csv": b"t,x,y,z\n0,1,2,3\n"}


@dataclass(frozen=True)
class PathStatus:
    """What a face reports about a path; `size` is for files only."""

    is_dir: bool
    size: int
    mtime_ns: int


class Face(Protocol):
    """The calls of an adapter. All paths are relative to the root, which is ""."""

    def stat(self, path: str) -> PathStatus: ...
    def listdir(self, path: str) -> list[str]: ...
    def read(self, path: str, offset: int, size: int) -> bytes: ...
    def write(self, path: str) -> None: ...


@dataclass(frozen=True)
class Published:
    """The release of these tests, behind a gateway that refuses missing objects with 403."""

    release: Release
    endpoint_url: str
    manifest: bytes
    since_ns: int

    @property
    def version(self) -> str:
        return self.release.version

    @property
    def directory(self) -> str:
        return f"{self.version}/annotations"


@pytest.fixture(scope="session")
def published(server) -> Iterator[Published]:
    since_ns = time.time_ns()
    release = Release(server, f"v{uuid.uuid4().int % 10**12}")
    lines = release.dataset("annotations", FILES).decode()
    lines += f"r,file,{release.url(REFUSED)}\n"  # listed, and never put
    lines = lines.replace("odd name, #1+é,file", "o,file").replace(
        release.url("annotations/odd name, #1+é.json"),
        f'"{release.url("annotations/odd name, #1+é.json")}"',
    )
    manifest = release.manifest("annotations", lines)
    release.dataset("components/imu", IMU)
    release.metadata(METADATA)
    with Gateway(server.endpoint_url) as gateway:
        gateway.faults.hide_missing = True
        yield Published(release, gateway.url, manifest, since_ns)


def refusal(call: object, *arguments: object) -> int | None:
    """Return the errno with which a call is refused."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is what counts
        call(*arguments)
    return caught.value.errno


EDGES = [
    ("empty.json", 0, 0),
    ("empty.json", 0, 10),
    ("empty.json", 5, 10),
    ("one.json", 0, 1),
    ("one.json", 0, 100),
    ("one.json", 1, 1),
    ("border.pt", 0, 0),
    ("border.pt", 0, 1),
    ("border.pt", BLOCK_SIZE - 1, 1),
    ("border.pt", BLOCK_SIZE, 1),
    ("border.pt", BLOCK_SIZE - 1, 2),
    ("border.pt", BLOCK_SIZE - 3000, 6000),
    ("border.pt", BLOCK_SIZE, BLOCK_SIZE),
    ("border.pt", 2 * BLOCK_SIZE - 1, 1),
    ("border.pt", 2 * BLOCK_SIZE - 1, 50),
    ("border.pt", 2 * BLOCK_SIZE, 50),
    ("border.pt", 9 * BLOCK_SIZE, 50),
    ("odd.pt", 3 * BLOCK_SIZE - 1, 18),
    ("odd.pt", 3 * BLOCK_SIZE, 100),
    ("odd.pt", 3 * BLOCK_SIZE + 17, 100),
    ("odd.pt", 0, 3 * BLOCK_SIZE + 17),
    ("odd.pt", 0, 9 * BLOCK_SIZE),
    ("odd.pt", 10, 3 * BLOCK_SIZE),
]


class TreeContract:
    """What every face must do."""

    @pytest.mark.parametrize("depth", [0, 1, 2])
    def test_the_root_and_what_leads_to_a_dataset_are_directories(self, face, published, depth):
        assert face.stat("/".join(published.directory.split("/")[:depth])).is_dir

    def test_the_root_holds_the_version_and_the_metadata(self, face, published):
        assert sorted(face.listdir("")) == sorted(["ego4d.json", published.version])

    def test_the_version_holds_its_datasets_and_the_metadata(self, face, published):
        assert sorted(face.listdir(published.version)) == [
            "annotations",
            "components",
            "ego4d.json",
        ]

    def test_a_dataset_with_a_slash_is_a_directory_in_a_directory(self, face, published):
        assert face.listdir(f"{published.version}/components") == ["imu"]
        imu = f"{published.version}/components/imu"
        assert sorted(face.listdir(imu)) == ["manifest.csv", "walk.csv"]
        assert face.read(f"{imu}/walk.csv", 0, 100) == IMU["walk.csv"]

    def test_a_dataset_lists_what_its_manifest_lists(self, face, published):
        names = face.listdir(published.directory)
        assert sorted(names) == sorted(["manifest.csv", *FILES, REFUSED])

    @pytest.mark.parametrize("name", FILES)
    def test_a_file_has_the_size_and_time_of_its_object(self, face, published, name):
        seen = face.stat(f"{published.directory}/{name}")
        assert (seen.is_dir, seen.size) == (False, len(FILES[name]))
        assert published.since_ns // 10**9 * 10**9 <= seen.mtime_ns <= time.time_ns()

    def test_the_manifest_is_there_byte_for_byte(self, face, published):
        path = f"{published.directory}/manifest.csv"
        seen = face.stat(path)
        assert (seen.is_dir, seen.size) == (False, len(published.manifest))
        assert published.since_ns // 10**9 * 10**9 <= seen.mtime_ns <= time.time_ns()
        assert face.read(path, 0, 10**6) == published.manifest
        assert face.read(path, 5, 10) == published.manifest[5:15]
        assert face.read(path, len(published.manifest), 10) == b""

    def test_the_metadata_is_at_the_root_and_below_the_version(self, face, published):
        for path in ("ego4d.json", f"{published.version}/ego4d.json"):
            assert face.stat(path).size == len(METADATA)
            assert face.read(path, 0, 1000) == METADATA

    @pytest.mark.parametrize(("name", "offset", "size"), EDGES)
    def test_a_read_returns_the_bytes_that_exist(self, face, published, name, offset, size):
        data = face.read(f"{published.directory}/{name}", offset, size)
        assert data == FILES[name][offset : offset + size]

    @pytest.mark.parametrize("name", FILES)
    def test_a_file_read_piece_by_piece_is_the_whole_file(self, face, published, name):
        path, step = f"{published.directory}/{name}", 700_001
        pieces = [face.read(path, at, step) for at in range(0, len(FILES[name]) + step, step)]
        assert b"".join(pieces) == FILES[name]

    @pytest.mark.parametrize(
        "path", ["nowhere", "{v}/nowhere", "{v}/annotations/no.json", "v0/annotations", "{v}/a/b/c"]
    )
    def test_what_is_not_listed_does_not_exist(self, face, published, path):
        path = path.format(v=published.version)
        assert refusal(face.stat, path) == errno.ENOENT
        assert refusal(face.listdir, path) == errno.ENOENT
        assert refusal(face.read, path, 0, 1) == errno.ENOENT

    @pytest.mark.parametrize("path", ["ego4d.json/x", "{d}/one.json/x", "{d}/manifest.csv/x/y"])
    def test_below_a_file_there_is_nothing(self, face, published, path):
        path = path.format(d=published.directory)
        assert refusal(face.stat, path) == errno.ENOTDIR
        assert refusal(face.listdir, path) == errno.ENOTDIR
        assert refusal(face.read, path, 0, 1) == errno.ENOTDIR

    def test_a_file_is_no_directory(self, face, published):
        assert refusal(face.listdir, f"{published.directory}/one.json") == errno.ENOTDIR

    @pytest.mark.parametrize("depth", [0, 1, 2])
    def test_a_directory_is_not_read_as_a_file(self, face, published, depth):
        path = "/".join(published.directory.split("/")[:depth])
        assert refusal(face.read, path, 0, 1) == errno.EISDIR

    @pytest.mark.parametrize("name", ["one.json", "manifest.csv"])
    def test_writing_to_a_file_is_refused(self, face, published, name):
        path = f"{published.directory}/{name}"
        before = face.read(path, 0, 10**6)
        assert refusal(face.write, path) == errno.EROFS
        assert face.read(path, 0, 10**6) == before

    def test_making_a_file_is_refused(self, face, published):
        path = f"{published.directory}/new.json"
        assert refusal(face.write, path) == errno.EROFS
        assert refusal(face.stat, path) == errno.ENOENT

    def test_a_listed_object_that_is_refused_is_visible_and_its_open_is_refused(
        self, face, published
    ):
        path = f"{published.directory}/{REFUSED}"
        assert not face.stat(path).is_dir
        assert REFUSED in face.listdir(published.directory)
        assert refusal(face.read, path, 0, 1) == errno.EACCES
        assert refusal(face.read, path, 0, 1) == errno.EACCES
