"""Damaged records of other tools: readable rows are used, and nothing is fatal."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ego4dfs.copies import Copies, Journal
from ego4dfs.copies.manifest_ver import Row, VersionFile, parse
from ego4dfs.files import read_regular
from ego4dfs.prefetch import Status
from kit.cli import run_cli
from kit.copies import Bench
from kit.fakes import FailingStore

pytestmark = pytest.mark.first_pass

GOOD = b"uid,version,filename\r\na,v1,a.mp4\r\nb,v2,b.mp4\r\nc\r\n"
ROWS = [("a", "v1", "a.mp4"), ("b", "v2", "b.mp4"), ("c", None, "")]

# What the file holds, and which of the good rows are read even so.
DAMAGED = {
    "NULs": (b"\0" * 4096, []),
    "NULs in place of its beginning": (b"\0" * 30 + GOOD[30:], ROWS[1:]),
    "a quote that is not closed": (GOOD.replace(b"v1", b'"v1'), ROWS[1:]),
    "a field of 200 KiB and a quote": (GOOD.replace(b"v1", b'"' + b"v" * 200_000), ROWS[1:]),
    "UTF-16": (GOOD.decode().encode("utf-16"), ROWS),
    "bytes that are no text": (GOOD.replace(b"v1", b"\xff\xfe"), ROWS[1:]),
    "more fields than its header": (GOOD.replace(b"v1", b"v1,v1,v1"), ROWS[1:]),
}
SOUND = {
    "CR line ends": (GOOD.replace(b"\r\n", b"\r"), ROWS),
    "LF line ends and empty lines": (GOOD.replace(b"\r\n", b"\n\n"), ROWS),
    "another order of columns": (b"filename,uid,version\r\na.mp4,a,v1\r\n", ROWS[:1]),
    "nothing": (b"", []),
}


@pytest.mark.parametrize("kind", [*DAMAGED, *SOUND])
def test_readable_rows_are_used(kind):
    content, rows = {**DAMAGED, **SOUND}[kind]
    found, damage = parse(content)
    assert found == [Row(*row) for row in rows]
    assert bool(damage) == (kind in DAMAGED)


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.binary(max_size=300), st.text(max_size=100).map(str.encode)))
def test_no_content_raises_an_error(content):
    rows, _ = parse(content)
    assert all(isinstance(row.uid, str) for row in rows)


def put_in_place(path: Path, kind: str) -> None:
    """Make a manifest.ver of a kind of damage."""
    path.unlink(missing_ok=True)
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a directory":
        path.mkdir()
    else:
        path.write_bytes(DAMAGED[kind][0])


@pytest.mark.parametrize("kind", ["NULs", "a pipe", "a directory", "UTF-16"])
def test_a_damaged_file_is_renamed_before_a_new_one_is_written(kind, tmp_path, caplog):
    path = tmp_path / "manifest.ver"
    for count in range(2):
        put_in_place(path, kind)
        before = path.lstat()
        versions = VersionFile(tmp_path)
        versions.put("z", "v9", "z.mp4")
        assert versions.save()
        aside = tmp_path / ("manifest.ver.damaged" + ("~2" if count else ""))
        assert aside.lstat().st_ino == before.st_ino
        saved = VersionFile(tmp_path).get("z", "z.mp4")
        assert saved is not None
        assert saved.fields == ("z", "v9", "z.mp4")
    assert sum("is damaged" in message for message in caplog.messages) == 1
    assert sum("it was renamed to" in message for message in caplog.messages) == 2


@pytest.mark.fault(
    area="disk",
    fault="a record of the official tool, or the journal, that is damaged or no file",
    face="prefetch, verify",
    sees="it is named once; readable rows are used, and the file is renamed, never deleted",
    deadline="at once",
)
@pytest.mark.parametrize("kind", ["NULs", "a quote that is not closed", "a pipe"])
def test_damage_does_not_end_a_run(kind, release, licensee, tmp_path):
    files = {"a.mp4": b"a" * 100, "b.mp4": b"b" * 200}
    release.dataset("annotations", files)
    where = ("-o", str(tmp_path / "out"), "--version", release.version, "--no-metadata")
    run_cli("prefetch", "-y", *where)
    directory = tmp_path / "out" / release.version / "annotations"
    put_in_place(directory / "manifest.ver", kind)
    journal = tmp_path / "out/.ego4dfs/journal.sqlite"
    for path in journal.parent.glob("journal*"):
        path.unlink()
    journal.write_bytes(b"\0" * 9000)
    done = run_cli("verify", *where)
    assert done.stdout == "2 right\n"
    assert "cannot be used" in done.stderr
    done = run_cli("prefetch", "-y", *where)
    assert done.stderr.count("manifest.ver is damaged") == 1
    assert "manifest.ver.damaged" in done.stderr
    assert "the copies are compared again" in done.stderr
    assert (directory / "manifest.ver.damaged").lstat()
    assert (journal.parent / "journal.sqlite.damaged").read_bytes() == b"\0" * 9000
    assert {name: (directory / name).read_bytes() for name in files} == files
    assert run_cli("prefetch", "-y", *where).stderr.count("damaged") == 0


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path, FailingStore())
    yield made
    made.close()


def test_a_pipe_in_the_place_of_an_empty_file_does_not_hang_a_run(bench):
    bench.put(empty=b"", a=b"a")
    os.mkfifo(bench.directory / "empty.mp4")
    report = bench.fetch()
    assert report.counts[Status.DONE] == 2
    assert (bench.directory / "empty.mp4").read_bytes() == b""


def test_a_pipe_in_the_place_of_the_journal_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "journal.sqlite")
    with pytest.raises(Exception, match=r"journal\.sqlite"):
        Journal(tmp_path, read_only=True)


# Copies that are served


@pytest.fixture
def copies(tmp_path):
    """A directory with copies of one dataset, and what is reported of it."""
    directory = tmp_path / "copies/v2/clips"
    directory.mkdir(parents=True)
    (directory / "a.mp4").write_bytes(b"data")
    return directory


def served(tmp_path: Path, reports: list[str]) -> Copies:
    return Copies(tmp_path / "copies", "s3", reports.append)


@pytest.mark.fault(
    area="disk",
    fault="a record of the official tool that is damaged or no file",
    face="mount",
    sees="its readable rows are used; status and log name it",
    deadline="at once",
)
@pytest.mark.parametrize("kind", ["NULs", "a quote that is not closed", "a pipe", "a directory"])
def test_damaged_records_beside_copies_are_reported_once_without_errors(
    kind, copies, tmp_path, bench
):
    put_in_place(copies / "manifest.ver", kind)
    bench.put(a=b"data")
    facts = bench.facts.get("s3://b/a.mp4")
    reports: list[str] = []
    found = served(tmp_path, reports)
    os.utime(copies / "a.mp4", ns=(facts.mtime_ns, facts.mtime_ns))
    for _ in range(2):
        assert found.find_valid("v2/clips/a.mp4", "s3://b/a.mp4", facts)
    assert [report for report in reports if "manifest.ver" in report] == reports[:1]
    assert reports[0].startswith("v2/clips/manifest.ver is damaged")
    found.close()


@pytest.mark.fault(
    area="disk",
    fault="a dataset's directory is a link to another disk",
    face="mount",
    sees="its copies are served; log and status report other links, which are not followed",
    deadline="at once",
)
def test_linked_datasets_are_served_and_other_links_reported(copies, tmp_path, bench):
    bench.put(a=b"data")
    facts = bench.facts.get("s3://b/a.mp4")
    os.utime(copies / "a.mp4", ns=(facts.mtime_ns, facts.mtime_ns))
    shutil.move(copies, tmp_path / "disk")
    copies.symlink_to(tmp_path / "disk")
    (copies.parent / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "disk/linked.mp4").symlink_to("a.mp4")
    reports: list[str] = []
    found = served(tmp_path, reports)
    copy = found.find_valid("v2/clips/a.mp4", "s3://b/a.mp4", facts)
    assert copy is not None
    view = memoryview(bytearray(4))
    assert (found.read_into(copy, 0, view), bytes(view)) == (4, b"data")
    assert not found.exists("v2/clips/linked.mp4")
    late = copies.parent / "late"
    late.symlink_to(tmp_path / "disk")
    assert not found.exists("v2/late/a.mp4")
    assert [report.partition(" is a link")[0] for report in reports if "is a link" in report] == [
        *("copy v2/gone", "copy v2/late")
    ]
    assert any("copy v2/clips has links in place of files" in report for report in reports)
    found.close()


def test_a_journal_that_is_not_a_database_is_named(copies, tmp_path, caplog):
    state = tmp_path / "copies/.ego4dfs"
    state.mkdir()
    os.mkfifo(state / "journal.sqlite")
    served(tmp_path, []).close()
    assert "journal.sqlite: not a regular file" in caplog.text


def test_special_files_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ".", "/dev/zero"):
        with pytest.raises(OSError, match="not a regular file"):
            read_regular(tmp_path / name)
    (tmp_path / "large").write_bytes(b"12345")
    with pytest.raises(OSError, match="too large"):
        read_regular(tmp_path / "large", max_bytes=4)
