"""The files of one dataset's directory, and the directories of copies on disks that fail."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from ego4dfs.copies import Journal, Layout, Record
from ego4dfs.copies.etag_trust import BucketEtags
from ego4dfs.copies.inventory import Inventory
from ego4dfs.errors import OutputError
from ego4dfs.manifest import Entry
from ego4dfs.store import ObjectFacts

FACTS = ObjectFacts(3, "e" * 32, "", 10**18)


def entry(name: str) -> Entry:
    return Entry(0, name, "uid", f"s3://b/{name}", frozenset(), None, frozenset(), "")


@pytest.fixture
def layout(tmp_path) -> Layout:
    made = Layout(tmp_path / "out", "v2")
    made.prepare(("clips",))
    return made


def scanned(layout: Layout, dataset: str, *names: str, **options: bool) -> Inventory:
    with closing(Journal(layout.state)) as journal:
        record = Record("s3://b/a", "there", "v2", FACTS, "md5")
        journal.complete((layout.relative("clips", name), record) for name in ("a", "withdrawn"))
        evidence = BucketEtags(journal, "there")
        entries = [entry(name) for name in names]
        return Inventory.scan(layout, journal, dataset, entries, {}, evidence, **options)


def test_only_the_files_and_records_of_entries_are_found(layout):
    for name in ("a", "other"):
        layout.dataset("clips").joinpath(name).write_bytes(b"abc")
    layout.dataset("clips").joinpath("directory").mkdir()
    layout.dataset("clips").joinpath("dangling").symlink_to("nowhere")
    found = scanned(layout, "clips", "a", "b", "directory", "dangling")
    assert list(found.files) == ["a"]
    assert found.files["a"].size == 3
    assert list(found.records) == ["a"]
    assert found.record(entry("a")) is not None
    assert found.path("a") == "v2/clips/a"


def test_a_directory_that_does_not_exist_has_no_files(layout):
    layout.dataset("clips").rmdir()
    assert scanned(layout, "clips", "a").files == {}


def test_a_directory_that_cannot_be_read_is_an_error_or_empty(layout, monkeypatch):
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    layout.dataset("clips").joinpath("a").write_bytes(b"abc")
    monkeypatch.setattr("ego4dfs.copies.inventory.os.scandir", refuse)
    with pytest.raises(PermissionError):
        scanned(layout, "clips", "a")
    assert scanned(layout, "clips", "a", skip_unreadable=True).files == {}


@pytest.mark.parametrize(("own", "size"), [(True, 7), (False, 4)])
def test_the_metadata_of_a_version_may_be_in_the_root(layout, own, size):
    (layout.root / "ego4d.json").write_bytes(b"root")
    if own:
        layout.metadata.write_bytes(b"version")
    assert scanned(layout, "", "ego4d.json").files["ego4d.json"].size == size
    assert "ego4d.json" not in scanned(layout, "clips", "ego4d.json").files


def test_a_name_that_the_disk_lists_in_another_spelling_is_found(layout, monkeypatch):
    """APFS and some servers list a name otherwise than it was created."""
    composed, decomposed = "caf\u00e9.bin", "cafe\u0301.bin"
    directory = layout.dataset("clips")
    directory.joinpath(composed).write_bytes(b"12345")
    directory.joinpath("DIR").mkdir()
    scandir = os.scandir

    class Listed:
        """The directory, with names in other spellings."""

        def __init__(self, path: Path) -> None:
            self._entries = [e for e in scandir(path) if not e.name.startswith(".")]

        def __enter__(self):
            spelled = {composed: decomposed, "DIR": "dir"}
            return iter([SimpleNamespace(name=spelled[e.name]) for e in self._entries])

        def __exit__(self, *_: object) -> None:
            """Nothing is open."""

    monkeypatch.setattr("ego4dfs.copies.inventory.os.scandir", Listed)
    found = scanned(layout, "clips", composed, "DIR", "Dir", "other")
    assert {name: state.size for name, state in found.files.items()} == {composed: 5}


def failing(number: int):
    def fail(*_arguments: object, **_keywords: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(("call", "number"), [("free_bytes", errno.EIO), ("device", errno.EACCES)])
def test_a_disk_that_cannot_be_examined_is_an_error_that_names_it(
    layout, monkeypatch, call, number
):
    monkeypatch.setattr(Path, "exists", lambda _path: True)
    monkeypatch.setattr("ego4dfs.copies.layout.os.statvfs", failing(number))
    monkeypatch.setattr(Path, "stat", failing(number))
    with pytest.raises(OutputError) as caught:
        getattr(layout, call)("v2/clips")
    assert str(caught.value) == f"{layout.dataset('clips')}: {os.strerror(number).lower()}"


def test_the_room_of_a_directory_that_does_not_exist_is_that_of_its_parent(layout, monkeypatch):
    examined: list[Path] = []

    def disk(path: Path) -> SimpleNamespace:
        examined.append(path)
        return SimpleNamespace(f_bavail=5, f_frsize=4096, f_blocks=len(examined) - 1)

    monkeypatch.setattr("ego4dfs.copies.layout.os.statvfs", disk)
    missing = layout.relative_directory("missing/dataset")
    assert layout.free_bytes(missing) is None  # a filesystem that reports a size of 0
    assert layout.free_bytes(missing) == 5 * 4096
    assert examined == [layout.dataset("")] * 2
    assert layout.device(missing) == layout.root.stat().st_dev


def test_a_name_that_is_too_long_for_a_directory_is_an_error(layout):
    with pytest.raises(OutputError, match="file name too long"):
        layout.free_bytes(f"v2/{'x' * 300}")
