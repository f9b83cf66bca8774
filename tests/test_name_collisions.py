"""File names that collide on a disk, and the names that files have there instead."""

from __future__ import annotations

import errno
import os

import pytest

from ego4dfs.copies.layout import Layout
from ego4dfs.copies.name_collisions import disk_names, with_disk_names
from ego4dfs.files import Folder
from ego4dfs.manifest import Entry

OWN, UPPER, TITLE = "notes.json", "NOTES.json", "Notes.json"


def entries(*names: str) -> list[Entry]:
    """Return entries of objects that have these names."""
    rest = ((), None, (), "")
    return [Entry(row, name, "uid", f"s3://b/{row}", *rest) for row, name in enumerate(names)]


@pytest.fixture
def layout(tmp_path) -> Layout:
    made = Layout(tmp_path / "out", "v2")
    made.prepare(("clips",))
    return made


@pytest.fixture
def ignores_case(monkeypatch) -> None:
    """Find files in directories by any spelling, as exFAT and SMB do."""
    status = Folder.status

    def any_spelling(folder: Folder, name: str) -> os.stat_result | None:
        names = os.listdir(folder.path)
        return status(folder, next((n for n in names if n.lower() == name.lower()), name))

    monkeypatch.setattr(Folder, "status", any_spelling)


def renamed(layout: Layout, *names: str, writable: bool = True) -> dict[str, str]:
    return disk_names(layout, "clips", entries(*names), writable=writable)


def test_names_that_differ_are_not_tested_on_the_disk(layout):
    missing = Layout(layout.root / "missing", "v2")
    assert renamed(missing, "a.json", "b.json") == {}
    assert not missing.root.exists()


def test_without_a_root_no_collision_is_known(layout):
    missing = Layout(layout.root / "missing", "v2")
    assert renamed(missing, OWN, UPPER) == {}
    assert not missing.root.exists()


@pytest.mark.usefixtures("ignores_case")
def test_the_first_of_names_that_collide_stays_and_the_others_get_numbers(layout):
    assert renamed(layout, OWN, UPPER, "a", TITLE) == {
        UPPER: "NOTES~2.json",
        TITLE: "Notes~3.json",
    }
    assert renamed(layout, OWN, "notes~2.json", UPPER) == {UPPER: "NOTES~3.json"}
    assert list(layout.dataset("clips").iterdir()) == []


@pytest.mark.usefixtures("ignores_case")
def test_a_name_that_is_reserved_for_records_gets_a_number(layout):
    assert renamed(layout, "Manifest.CSV", "a") == {"Manifest.CSV": "Manifest~2.CSV"}


def test_names_that_this_disk_keeps_apart_stay(layout):
    assert renamed(layout, OWN, UPPER) == {}
    assert renamed(layout, OWN, UPPER, writable=False) == {}
    layout.dataset("clips").joinpath(UPPER).write_bytes(b"one of them")
    assert renamed(layout, OWN, UPPER) == {}


@pytest.mark.parametrize("dataset", ["clips", "missing/dataset"])
@pytest.mark.usefixtures("ignores_case")
def test_a_disk_that_cannot_be_written_is_judged_by_the_hidden_directory(layout, dataset):
    def found() -> dict[str, str]:
        return disk_names(layout, dataset, entries(OWN, UPPER), writable=False)

    if dataset == "clips":
        assert found() == {}
    layout.dataset("clips").joinpath(".ego4dfs").mkdir()
    layout.dataset("").joinpath(".ego4dfs").mkdir()
    assert found() == {UPPER: "NOTES~2.json"}


@pytest.mark.usefixtures("ignores_case")
def test_one_file_under_both_names_is_a_collision_without_a_temporary_file(layout, monkeypatch):
    layout.dataset("clips").joinpath(OWN).write_bytes(b"the first")
    monkeypatch.setattr(Folder, "create_hidden", None)
    assert renamed(layout, OWN, UPPER) == {UPPER: "NOTES~2.json"}


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.usefixtures("ignores_case")
def test_inode_numbers_that_differ_by_name_hide_no_collision(layout, monkeypatch, writable):
    """FUSE gives each name a number of its own if the filesystem sets none, as that of exFAT."""
    monkeypatch.setattr(os.path, "samestat", lambda *_: False)
    one = layout.dataset("clips") / TITLE
    one.write_bytes(b"under all names")
    assert renamed(layout, OWN, UPPER, writable=writable) == {UPPER: "NOTES~2.json"}
    one.rename(one.parent.parent / "elsewhere")
    one.with_name(".ego4dfs").mkdir(exist_ok=True)
    assert renamed(layout, OWN, UPPER, writable=writable) == {UPPER: "NOTES~2.json"}


def test_two_files_are_no_collision_without_a_temporary_file(layout, monkeypatch):
    for name in (OWN, UPPER):
        layout.dataset("clips").joinpath(name).write_bytes(name.encode())
    monkeypatch.setattr(Folder, "create_hidden", None)
    assert renamed(layout, OWN, UPPER) == {}


def test_two_hard_links_to_one_file_are_tested_by_a_temporary_file(layout):
    directory = layout.dataset("clips")
    directory.joinpath(OWN).write_bytes(b"one file")
    directory.joinpath(UPPER).hardlink_to(directory / OWN)
    assert renamed(layout, OWN, UPPER) == {}


@pytest.mark.usefixtures("ignores_case")
def test_where_no_temporary_file_can_be_made_no_collision_is_known(layout, monkeypatch):
    def refuse(_folder: Folder, name: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system", name)

    monkeypatch.setattr(Folder, "create_hidden", refuse)
    assert renamed(layout, OWN, UPPER) == {}


def test_entries_have_the_names_that_they_have_on_the_disk():
    given = entries(OWN, UPPER)
    assert with_disk_names(given, {}) is given
    found = with_disk_names(given, {UPPER: "NOTES~2.json"})
    assert [(entry.name, entry.url) for entry in found] == [
        (OWN, "s3://b/0"),
        ("NOTES~2.json", "s3://b/1"),
    ]
