"""Copies that are not served: special files, links, other names, other records, failed reads."""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import closing
from pathlib import Path

import pytest

from ego4dfs.copies import Copies, Journal, Record
from ego4dfs.copies.manifest_ver import Row, Rows
from ego4dfs.errors import ConfigError
from ego4dfs.store import ObjectFacts

SOURCE, URL, VIDEO = "there", "s3://b/full/u1.mp4", "v2/full_scale/u1.mp4"
DATA = b"the bytes of a video"
T = 1_600_000_000 * 10**9
SAVED = T + 3600 * 10**9
FACTS = ObjectFacts(len(DATA), hashlib.md5(DATA).hexdigest(), "v1", T)  # noqa: S324


class Place:
    """A directory of copies with one video, and what is reported of it."""

    def __init__(self, root: Path) -> None:
        self.root, self.reported = root, []
        self.put(VIDEO, DATA)

    def put(self, path: str, data: bytes, mtime_ns: int = T) -> Path:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(data)
        os.utime(self.root / path, ns=(mtime_ns, mtime_ns))
        return self.root / path

    def record(self, path: str, facts: ObjectFacts = FACTS, *, url=URL, source=SOURCE) -> None:
        (self.root / ".ego4dfs").mkdir(exist_ok=True)
        with closing(Journal(self.root / ".ego4dfs")) as journal:
            journal.complete([(path, Record(url, source, "v2", facts, "md5"))])

    def rows(self, dataset: str, *rows: str) -> None:
        text = "\r\n".join(["uid,version,filename", *rows, ""])
        self.put(f"v2/{dataset}/manifest.ver", text.encode(), SAVED)

    def copies(self) -> Copies:
        return closing(Copies(self.root, SOURCE, self.reported.append))


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path / "copies")


def read(copies: Copies, copy, offset: int = 0, size: int = 100) -> bytes | None:
    buffer = bytearray(size)
    count = copies.read_into(copy, offset, memoryview(buffer))
    return None if count is None else bytes(buffer[:count])


def test_a_recorded_copy_is_read_in_any_range(place):
    place.record(VIDEO)
    with place.copies() as copies:
        copy = copies.find_valid(VIDEO, URL, FACTS)
        assert read(copies, copy) == DATA
        assert read(copies, copy, 4, 5) == DATA[4:9]
        assert read(copies, copy, len(DATA)) == read(copies, copy, 10**6) == b""
        assert copies.facts(VIDEO, URL) == FACTS
        assert copies.without_record([(VIDEO, URL), ("v2/none", "s3://b/none")]) == ["s3://b/none"]
        assert copies.exists(VIDEO)
        assert not copies.exists("v2/none")
    assert place.reported == []


@pytest.mark.parametrize(("url", "source"), [("s3://b/other", SOURCE), (URL, "elsewhere")])
def test_a_record_of_another_object_has_no_facts(place, url, source):
    place.record(VIDEO, url=url, source=source)
    with place.copies() as copies:
        assert copies.facts(VIDEO, URL) is None


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_copy_that_was_changed_since_its_record_has_no_facts(place, change):
    place.record(VIDEO)
    place.put(VIDEO, DATA + b"x" * (change == "size"), T + (change == "time") * 1_500_000_001)
    with place.copies() as copies:
        assert copies.facts(VIDEO, URL) is None
        assert copies.recorded_facts(VIDEO, URL) is None


@pytest.mark.parametrize("change", ["size", "time", "inode", "removed"])
def test_a_copy_that_changes_while_it_is_open_is_not_read_on(place, change):
    place.record(VIDEO)
    with place.copies() as copies:
        copy = copies.find_valid(VIDEO, URL, FACTS)
        path = place.root / VIDEO
        if change == "size":
            place.put(VIDEO, DATA + b"more")
        elif change == "time":
            os.utime(path, ns=(T, T + 1))
        elif change == "inode":
            path.rename(path.with_suffix(".old"))
            place.put(VIDEO, DATA)
        else:
            path.unlink()
        assert read(copies, copy) is None
    [report] = place.reported
    assert ("cannot be read" if change == "removed" else "was changed while it was open") in report


def test_a_copy_that_is_truncated_while_it_is_read_is_not_used(place, monkeypatch):
    place.record(VIDEO)
    with place.copies() as copies:
        copy = copies.find_valid(VIDEO, URL, FACTS)
        preadv, short = os.preadv, [5, 0]

        def truncated(fd, buffers, offset):
            return preadv(fd, [buffers[0][: short.pop(0)]], offset)

        monkeypatch.setattr(os, "preadv", truncated)
        assert read(copies, copy) is None
    assert "was truncated while it was read" in place.reported[0]


@pytest.mark.parametrize(
    ("kind", "report"), [("a link", "links in place of files"), ("a FIFO", "not a regular file")]
)
def test_a_link_or_a_special_file_is_no_copy(place, kind, report):
    path = place.root / VIDEO
    path.unlink()
    if kind == "a link":
        path.symlink_to(place.put("elsewhere", DATA))
    else:
        os.mkfifo(path)
    with place.copies() as copies:
        assert not copies.exists(VIDEO)
        assert copies.find_valid(VIDEO, URL, FACTS) is None
    assert report in place.reported[0]
    assert len(place.reported) == 1


def test_a_directory_is_no_copy_and_needs_no_report(place):
    with place.copies() as copies:
        assert not copies.exists("v2/full_scale")
    assert place.reported == []


def test_a_copy_that_cannot_be_compared_is_not_used(place, monkeypatch):
    place.put(VIDEO, DATA, SAVED)
    with place.copies() as copies:

        def fail(*_arguments: object, **_keywords: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patched:
            patched.setattr("ego4dfs.copies.serving.open_regular", fail)
            assert copies.find_valid(VIDEO, URL, FACTS) is None
        assert "cannot be read (Input/output error)" in place.reported[0]
        assert copies.find_valid(VIDEO, URL, FACTS) is not None


@pytest.mark.parametrize("size", [1, len(DATA) + 1])
def test_a_copy_of_another_size_is_named_with_both_sizes(place, size):
    place.put(VIDEO, bytes(size))
    with place.copies() as copies:
        assert copies.find_valid(VIDEO, URL, FACTS) is None
    assert f"has {size} bytes where the object has {len(DATA)}" in place.reported[0]


def test_a_path_that_differs_from_a_recorded_one_only_in_case_is_not_served(place):
    """Where case does not count, it is another object's file."""
    place.record("v2/full_scale/U1.mp4", url="s3://b/full/U1.mp4")
    place.rows("full_scale", "u1,v1,u1.mp4")
    with place.copies() as copies:
        assert copies.find_valid(VIDEO, URL, FACTS) is None
        assert copies.recorded_facts(VIDEO, URL) is None
    assert "differs only in case" in place.reported[0]


def test_a_file_that_has_another_name_on_this_disk_is_served_under_its_own(place):
    place.put("v2/full_scale/u1~2.mp4", DATA)
    (place.root / VIDEO).unlink()
    place.record("v2/full_scale/u1~2.mp4")
    with place.copies() as copies:
        assert read(copies, copies.find_valid(VIDEO, URL, FACTS)) == DATA
        assert copies.facts(VIDEO, URL) == FACTS
        assert copies.facts(VIDEO, "s3://b/other") is None


def test_a_directory_that_cannot_be_opened_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ConfigError) as caught:
        Copies(tmp_path / "none", SOURCE, print)
    assert str(caught.value) == f"--copies {tmp_path / 'none'}: no such file or directory"


def test_a_damaged_official_record_is_reported(place):
    place.rows("full_scale", 'u1,v1,"u1.mp4')
    place.put(VIDEO, DATA, SAVED)
    with place.copies() as copies:
        assert copies.find_valid(VIDEO, URL, FACTS) is not None
    assert "v2/full_scale/manifest.ver is damaged" in place.reported[0]


def test_a_directory_without_a_manifest_has_none(place):
    place.put("v2/clips/manifest.csv", b"a,b", SAVED)
    with place.copies() as copies:
        assert copies.manifest("v2_1", "clips") == (b"a,b", SAVED)
        assert copies.manifest("v2", "full_scale") is None


def test_the_official_record_is_of_a_file_with_bytes_and_of_this_size_and_time(place):
    place.rows("full_scale", "u1,v7,u1.mp4", "u2,v7,u2.mp4")
    place.put("v2/full_scale/u2.mp4", b"")
    with place.copies() as copies:
        facts = copies.recorded_facts(VIDEO, URL)
        assert facts == ObjectFacts(len(DATA), "", "v7", T)
        assert read(copies, copies.find_recorded(VIDEO, facts)) == DATA
        assert copies.recorded_facts("v2/full_scale/u2.mp4", "s3://b/u2") is None
        assert copies.recorded_facts("v2/full_scale/none", "s3://b/none") is None
        os.utime(place.root / VIDEO, ns=(T, T + 1))
        assert copies.find_recorded(VIDEO, facts) is None
        place.put(VIDEO, DATA + b"more")
        assert copies.find_recorded(VIDEO, facts) is None


@pytest.mark.parametrize("dataset", ["clips", "components/videos"])
def test_a_row_is_found_in_any_dataset_of_the_version(place, dataset):
    place.rows(dataset, "u1,v7,u1.mp4")
    place.put("v2/a/b/c/manifest.ver", b"uid,version,filename\r\nu2,v8,u2.mp4\r\n", SAVED)
    place.put("v2/full_scale/u2.mp4", DATA)
    place.put("v2/ego4d.json", DATA)
    with place.copies() as copies:
        assert copies.recorded_facts(VIDEO, URL) == ObjectFacts(len(DATA), "", "v7", T)
        assert copies.recorded_facts("v2/full_scale/u2.mp4", "s3://b/u2") is None
        assert copies.recorded_facts("v2/ego4d.json", "s3://b/ego4d.json") is None


def test_rows_without_a_uid_are_left_out_and_the_first_of_a_uid_counts():
    first, second = Row("u1", "v1", "a.mp4"), Row("u1", "v2", "a.mp4")
    rows = Rows([Row("", "v0", "a.mp4"), first, second])
    assert list(rows.all()) == [first]
    assert rows.get("u1", "a.mp4") == rows.get("", "a.mp4") == first
    assert rows.get("u1", "b.mp4") is None
    assert rows.get("", "b.mp4") is None
