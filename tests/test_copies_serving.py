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
    before = os.listdir("/proc/self/fd")
    with pytest.raises(MemoryError):
        directory.copies()
    assert len(os.listdir("/proc/self/fd")) == len(before)


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
