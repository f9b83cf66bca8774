"""Which copies a mount serves, and which it refuses, without a mount or a server."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from ego4dfs.copies import Copies, Journal, Record
from ego4dfs.errors import StoreUnavailable
from ego4dfs.store import ObjectFacts
from ego4dfs.vfs.tree import ObjectFile, Tree
from ego4dfs.vfs.vfs import VFS
from kit.fakes import FailingStore
from kit.own_process import descriptors_below
from kit.sessions import session_over

S = 10**9
T = 1_600_000_000 * S  # when objects were uploaded
LATER = T + 3600 * S
SOURCE = "s3.amazonaws.com"
VIDEO, URL = "v2/full_scale/u1.mp4", "s3://b/full/u1.mp4"


def facts_of(data, version="", mtime_ns=T):
    return ObjectFacts(len(data), hashlib.md5(data).hexdigest(), version, mtime_ns)  # noqa: S324


class Directory:
    """A directory of copies, filled by a test, and what a mount makes of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.reported: list[str] = []
        self._opened: list[Copies] = []

    def put(self, path: str, data: bytes, mtime_ns: int = LATER) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(data)
        os.utime(self.root / path, ns=(mtime_ns, mtime_ns))

    def rows(self, dataset: str, *rows: str, saved_ns: int = LATER + 60 * S) -> None:
        text = "\r\n".join(["uid,version,filename", *rows, ""])
        self.put(f"v2/{dataset}/manifest.ver", text.encode(), saved_ns)

    def copies(self) -> Copies:
        self._opened.append(Copies(self.root, SOURCE, self.reported.append))
        return self._opened[-1]

    def close(self) -> None:
        for copies in self._opened:
            copies.close()


@pytest.fixture
def directory(tmp_path):
    made = Directory(tmp_path / "copies")
    made.root.mkdir()
    yield made
    made.close()


@pytest.mark.parametrize("order", [(b"AAAA", b"BBBB"), (b"BBBB", b"AAAA")])
def test_a_comparison_counts_for_one_version_of_an_object(directory, order):
    directory.put(VIDEO, b"AAAA")
    copies = directory.copies()
    for data in (*order, *order):
        used = copies.find_valid(VIDEO, URL, facts_of(data, f"version of {data!r}"))
        assert (used is not None) == (data == b"AAAA")


def test_a_comparison_that_proves_nothing_is_judged_anew_for_each_version(directory):
    """A size is enough for an object that is older than its copy."""
    directory.put(VIDEO, b"AAAA")
    directory.rows("full_scale", "u1")
    copies = directory.copies()
    etag = "e" * 32 + "-3"  # of an upload in unknown parts
    assert copies.find_valid(VIDEO, URL, ObjectFacts(4, etag, "", T)) is not None
    assert copies.find_valid(VIDEO, URL, ObjectFacts(4, etag, "", LATER + 3600 * S)) is None


@pytest.mark.parametrize("data", [b"right", b"wrong"])
def test_without_versions_a_row_of_another_directory_does_not_make_a_file_right(directory, data):
    directory.put(VIDEO, data)
    directory.rows("video_540ss", "u1,,u1.mp4")
    used = directory.copies().find_valid(VIDEO, URL, facts_of(b"right"))
    assert (used is not None) == (data == b"right")


def test_an_adopted_copy_too_large_to_compare_is_served_by_size_and_time(directory, monkeypatch):
    """Prefetch adopted it by its version, and ETags of its bucket are known to be MD5s."""
    monkeypatch.setattr("ego4dfs.copies.serving.COMPARED_BYTES", 3)
    facts, other = facts_of(b"video", "v1"), facts_of(b"other")
    directory.put(VIDEO, b"video", T)
    (directory.root / ".ego4dfs").mkdir()
    journal = Journal(directory.root / ".ego4dfs")
    adopted = Record(URL, SOURCE, "v2", facts, "")
    compared = Record("s3://b/other", SOURCE, "v2", other, "md5")
    journal.complete([(VIDEO, adopted), ("v2/full_scale/other", compared)])
    journal.close()
    assert directory.copies().find_valid(VIDEO, URL, facts) is not None
    directory.put(VIDEO, b"video")
    assert directory.copies().find_valid(VIDEO, URL, facts) is None


OTHER_SHAPES = {
    "lacks columns": "CREATE TABLE files (path TEXT, other)",
    "records cannot be read": "CREATE TABLE times (path TEXT)",
    "evidence cannot be read": "CREATE TABLE evidence (something)",
}


@pytest.mark.parametrize("shape", OTHER_SHAPES)
def test_a_journal_of_another_shape_counts_as_empty(directory, caplog, shape):
    directory.put(VIDEO, b"AAAA")
    (directory.root / ".ego4dfs").mkdir()
    with sqlite3.connect(directory.root / ".ego4dfs/journal.sqlite") as database:
        database.execute(OTHER_SHAPES[shape])
    database.close()
    assert directory.copies().find_valid(VIDEO, URL, facts_of(b"AAAA")) is not None
    assert "copies are checked by their times and by manifest.ver only" in caplog.text


def test_copies_that_cannot_be_opened_leave_no_directory_open(directory, monkeypatch):
    def fail(*_arguments):
        raise MemoryError

    directory.put(VIDEO, b"AAAA")
    monkeypatch.setattr("ego4dfs.copies.serving.BucketEtags", fail)
    before = descriptors_below(directory.root)
    with pytest.raises(MemoryError):
        directory.copies()
    assert descriptors_below(directory.root) == before


@pytest.fixture
def offline(directory, tmp_path):
    """Return a tree over the directory, whose store does not answer."""
    store = FailingStore()
    store.fail(StoreUnavailable("nothing answers"))
    session = session_over(store, tmp_path)
    tree = Tree()
    tree.add(ObjectFile(VIDEO, URL))
    opened = []

    def open_tree() -> VFS:
        opened.append(VFS(replace(session, copies=directory.copies()), tree))
        return opened[-1]

    yield open_tree
    session.close()


def test_a_store_that_is_down_does_not_make_a_refused_copy_right(directory, offline):
    """The index knows from yesterday which version the object has; the copy is of another."""
    directory.put(VIDEO, b"old version")
    directory.rows("full_scale", "u1,v1,u1.mp4")
    vfs = offline()
    known = {
        "another version": facts_of(b"new version", "v2"),
        "another size": facts_of(b"a longer new version", "v1"),
    }
    for facts in known.values():
        vfs.session.facts.record(URL, facts)
        assert vfs.stat(VIDEO).size == facts.size
        with pytest.raises(StoreUnavailable):
            vfs.open(VIDEO)


def test_without_facts_a_copy_is_served_by_the_official_record_while_the_store_is_down(
    directory, offline
):
    directory.put(VIDEO, b"as recorded")
    directory.rows("full_scale", "u1,v1,u1.mp4")
    vfs = offline()
    handle = vfs.open(VIDEO)
    assert vfs.read(handle, 0, 100) == b"as recorded"
    assert vfs.stat(VIDEO).size == 11


@pytest.mark.parametrize(
    ("row", "used"),
    [
        ("x,v1,a.bin", True),
        ("a,v1", True),
        ("x,v2,a.bin", False),
        ("x,,a.bin", False),
        ("x,v1,b.bin", False),
        ("x,v1", False),
        ("a,v2\r\nx,v1,a.bin", True),
    ],
)
def test_a_copy_of_another_time_counts_if_the_official_record_has_its_version(directory, row, used):
    """The official tool leaves the time of the download, and the version in manifest.ver.

    Without manifest.csv a row is found by its file name, then by the uid that the name has.
    """
    directory.put("v2/clips/a.bin", b"bytes")
    directory.rows("clips", row)
    facts = ObjectFacts(5, "etag", "v1", T)
    assert (directory.copies().find_valid("v2/clips/a.bin", URL, facts) is not None) == used
    assert len(directory.reported) == (not used)


SAVED = LATER + 60 * S
WRITTEN = LATER + 30 * S


@pytest.mark.parametrize("own", [True, False], ids=["beside", "elsewhere"])
@pytest.mark.parametrize(
    ("mtime_ns", "used"),
    [
        (LATER - 1, False),
        (LATER, True),
        (WRITTEN, True),
        (SAVED, True),
        (SAVED + 1, False),
    ],
)
def test_offline_a_row_about_another_file_counts_for_files_of_its_run(
    directory, mtime_ns, used, own
):
    """The run began with manifest.csv and ended with manifest.ver; one row of a uid is left."""
    directory.put(VIDEO, b"video", mtime_ns)
    place = "full_scale" if own else "annotations"
    directory.put(f"v2/{place}/manifest.csv", b"video_uid,s3_path,type\n", LATER)
    directory.rows(place, "u1,v9,u1.json", saved_ns=SAVED)
    found = directory.copies().recorded_facts(VIDEO, URL)
    assert found == (ObjectFacts(5, "", "", mtime_ns) if used else None)


def other_manifest_ver(directory):
    directory.rows("full_scale", "u0,v1,u0.mp4")


def no_manifest(directory):
    (directory.root / "v2/slowfast/manifest.csv").unlink()


def prefetched(directory):
    """A prefetch records the files of each dataset in its own directory."""
    (directory.root / ".ego4dfs").mkdir()
    journal = Journal(directory.root / ".ego4dfs")
    record = Record("s3://b/u1.pt", SOURCE, "v2", facts_of(b"features", "v9"), "md5")
    journal.complete([("v2/slowfast/u1.pt", record)])
    journal.close()


def copied_halfway(directory):
    """An interrupted `cp` leaves half a file, of the time when it was interrupted."""
    directory.put(VIDEO, b"half", SAVED + 3600 * S)


def copied_halfway_before(directory):
    directory.put(VIDEO, b"half", LATER - 3600 * S)


@pytest.mark.parametrize(
    "spoil",
    [other_manifest_ver, no_manifest, prefetched, copied_halfway, copied_halfway_before],
)
def test_offline_a_row_about_another_file_proves_nothing_outside_its_run(directory, spoil):
    directory.put(VIDEO, b"video", WRITTEN)
    directory.put("v2/slowfast/u1.pt", b"features", WRITTEN)
    directory.put("v2/slowfast/manifest.csv", b"video_uid,s3_path,type\n", LATER)
    directory.rows("slowfast", "u1,v9,u1.pt", saved_ns=SAVED)
    assert directory.copies().recorded_facts(VIDEO, URL) is not None
    spoil(directory)
    assert directory.copies().recorded_facts(VIDEO, URL) is None


@pytest.mark.parametrize("row", ["u1,v9,u1.mp4", "u1"])
def test_offline_a_row_that_may_be_about_the_file_beside_it_proves_no_other(directory, row):
    directory.put(VIDEO, b"half", LATER)
    directory.put("v2/video_540ss/u1.mp4", b"small", LATER)
    directory.rows("video_540ss", row, saved_ns=SAVED)
    assert directory.copies().recorded_facts(VIDEO, URL) is None


def test_offline_a_row_elsewhere_that_names_the_file_has_its_version(directory):
    directory.put(VIDEO, b"video", LATER)
    directory.rows("slowfast", "u1,v9,u1.mp4", saved_ns=SAVED)
    found = directory.copies().recorded_facts(VIDEO, URL)
    assert found == ObjectFacts(5, "", "v9", LATER)
