"""TreeContract: the tests that every face of the tree passes, as a pytest class to subclass."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable

import pytest

from ego4dfs.blocks import BLOCK_SIZE
from ego4dfs.testing.contract_release import FILES, IMU, METADATA, REFUSED, ContractRelease
from ego4dfs.testing.faces import Face

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


def refusal(call: Callable[..., object], *arguments: object) -> int | None:
    """Return the errno with which a call is refused."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is what counts
        call(*arguments)
    return caught.value.errno


class TreeContract:
    """What programs can rely on, of every face of the tree.

    A subclass gives two fixtures: `contract_release`, a ContractRelease whose objects it has put,
    and `face`, a Face that shows the DATASETS of that release.
    """

    @pytest.mark.parametrize("depth", [0, 1, 2])
    def test_the_root_and_what_leads_to_a_dataset_are_directories(
        self, face: Face, contract_release: ContractRelease, depth: int
    ) -> None:
        assert face.stat("/".join(contract_release.directory.split("/")[:depth])).is_dir

    def test_the_root_holds_the_version_and_the_metadata(
        self, face: Face, contract_release: ContractRelease
    ) -> None:
        assert sorted(face.listdir("")) == sorted(
            ["ego4d.json", contract_release.version_directory]
        )

    def test_the_version_holds_its_datasets_and_the_metadata(
        self, face: Face, contract_release: ContractRelease
    ) -> None:
        assert sorted(face.listdir(contract_release.version_directory)) == [
            "annotations",
            "components",
            "ego4d.json",
        ]

    def test_a_dataset_with_a_slash_is_a_directory_in_a_directory(
        self, face: Face, contract_release: ContractRelease
    ) -> None:
        assert face.listdir(f"{contract_release.version_directory}/components") == ["imu"]
        imu = f"{contract_release.version_directory}/components/imu"
        assert sorted(face.listdir(imu)) == ["manifest.csv", "walk.csv"]
        assert face.read(f"{imu}/walk.csv", 0, 100) == IMU["walk.csv"]

    def test_a_dataset_lists_what_its_manifest_lists(
        self, face: Face, contract_release: ContractRelease
    ) -> None:
        names = face.listdir(contract_release.directory)
        assert sorted(names) == sorted(["manifest.csv", *FILES, REFUSED])

    @pytest.mark.parametrize("name", FILES)
    def test_a_file_has_the_size_and_time_of_its_object(
        self, face: Face, contract_release: ContractRelease, name: str
    ) -> None:
        seen = face.stat(f"{contract_release.directory}/{name}")
        assert (seen.is_dir, seen.size) == (False, len(FILES[name]))
        assert contract_release.since_ns // 10**9 * 10**9 <= seen.mtime_ns <= time.time_ns()

    def test_the_manifest_is_there_byte_for_byte(
        self, face: Face, contract_release: ContractRelease
    ) -> None:
        path = f"{contract_release.directory}/manifest.csv"
        seen = face.stat(path)
        assert (seen.is_dir, seen.size) == (False, len(contract_release.manifest))
        assert contract_release.since_ns // 10**9 * 10**9 <= seen.mtime_ns <= time.time_ns()
        assert face.read(path, 0, 10**6) == contract_release.manifest
        assert face.read(path, 5, 10) == contract_release.manifest[5:15]
        assert face.read(path, len(contract_release.manifest), 10) == b""

    def test_the_metadata_is_at_the_root_and_below_the_version(
        self, face: Face, contract_release: ContractRelease
    ) -> None:
        for path in ("ego4d.json", f"{contract_release.version_directory}/ego4d.json"):
            assert face.stat(path).size == len(METADATA)
            assert face.read(path, 0, 1000) == METADATA

    @pytest.mark.parametrize(("name", "offset", "size"), EDGES)
    def test_a_read_returns_the_bytes_that_exist(
        self, face: Face, contract_release: ContractRelease, name: str, offset: int, size: int
    ) -> None:
        data = face.read(f"{contract_release.directory}/{name}", offset, size)
        assert data == FILES[name][offset : offset + size]

    @pytest.mark.parametrize("name", FILES)
    def test_a_file_read_piece_by_piece_is_the_whole_file(
        self, face: Face, contract_release: ContractRelease, name: str
    ) -> None:
        path, step = f"{contract_release.directory}/{name}", 700_001
        pieces = [face.read(path, at, step) for at in range(0, len(FILES[name]) + step, step)]
        assert b"".join(pieces) == FILES[name]

    @pytest.mark.parametrize(
        "path", ["nowhere", "{v}/nowhere", "{v}/annotations/no.json", "v0/annotations", "{v}/a/b/c"]
    )
    def test_what_is_not_listed_does_not_exist(
        self, face: Face, contract_release: ContractRelease, path: str
    ) -> None:
        path = path.format(v=contract_release.version_directory)
        assert refusal(face.stat, path) == errno.ENOENT
        assert refusal(face.listdir, path) == errno.ENOENT
        assert refusal(face.read, path, 0, 1) == errno.ENOENT

    @pytest.mark.parametrize("path", ["ego4d.json/x", "{d}/one.json/x", "{d}/manifest.csv/x/y"])
    def test_below_a_file_there_is_nothing(
        self, face: Face, contract_release: ContractRelease, path: str
    ) -> None:
        path = path.format(d=contract_release.directory)
        assert refusal(face.stat, path) == errno.ENOTDIR
        assert refusal(face.listdir, path) == errno.ENOTDIR
        assert refusal(face.read, path, 0, 1) == errno.ENOTDIR

    def test_a_file_is_no_directory(self, face: Face, contract_release: ContractRelease) -> None:
        assert refusal(face.listdir, f"{contract_release.directory}/one.json") == errno.ENOTDIR

    @pytest.mark.parametrize("depth", [0, 1, 2])
    def test_a_directory_is_not_read_as_a_file(
        self, face: Face, contract_release: ContractRelease, depth: int
    ) -> None:
        path = "/".join(contract_release.directory.split("/")[:depth])
        assert refusal(face.read, path, 0, 1) == errno.EISDIR

    @pytest.mark.parametrize("name", ["one.json", "manifest.csv"])
    def test_writing_to_a_file_is_refused(
        self, face: Face, contract_release: ContractRelease, name: str
    ) -> None:
        path = f"{contract_release.directory}/{name}"
        before = face.read(path, 0, 10**6)
        assert refusal(face.write, path) == errno.EROFS
        assert face.read(path, 0, 10**6) == before

    def test_making_a_file_is_refused(self, face: Face, contract_release: ContractRelease) -> None:
        path = f"{contract_release.directory}/new.json"
        assert refusal(face.write, path) == errno.EROFS
        assert refusal(face.stat, path) == errno.ENOENT

    def test_a_listed_object_that_is_refused_is_visible_and_its_open_is_refused(
        self, face: Face, contract_release: ContractRelease
    ) -> None:
        path = f"{contract_release.directory}/{REFUSED}"
        assert not face.stat(path).is_dir
        assert REFUSED in face.listdir(contract_release.directory)
        assert refusal(face.read, path, 0, 1) == contract_release.refused_errno
        assert refusal(face.read, path, 0, 1) == contract_release.refused_errno
