"""The journal when its disk fails or lacks abilities: errors name it, and nothing is lost."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from ego4dfs.copies import Journal, Record, journal_file
from ego4dfs.copies.journal import JournalError
from ego4dfs.errors import OutputError
from ego4dfs.store import ObjectFacts
from kit.own_process import descriptors_below

FACTS = ObjectFacts(3, "e" * 32, "", 10**18)
RECORD = Record("s3://b/a", "there", "v2", FACTS, "md5")
PATH = "v2/viz/a"
IO_ERROR = sqlite3.OperationalError("disk I/O error")
FULL = sqlite3.OperationalError("database or disk is full")


@pytest.fixture
def state(tmp_path) -> Path:
    made = tmp_path / ".ego4dfs"
    made.mkdir()
    return made


def failing(number: int):
    def fail(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def paths(state: Path) -> list[str]:
    with closing(Journal(state, read_only=True)) as journal:
        return [path for path, _ in journal.records()]


class Broken:
    """A connection on which every statement fails."""

    in_transaction = False

    def __init__(self, error: sqlite3.Error) -> None:
        self._error = error

    def execute(self, *_arguments: object) -> None:
        raise self._error

    def close(self) -> None:
        """Nothing is open."""


def with_room(monkeypatch, free_bytes: int) -> None:
    disk = SimpleNamespace(f_bavail=free_bytes, f_frsize=1)
    monkeypatch.setattr(journal_file.os, "statvfs", lambda _path: disk)


@pytest.mark.parametrize(
    ("error", "free_bytes", "number"),
    [
        (FULL, 1 << 30, errno.ENOSPC),
        (IO_ERROR, (64 << 10) - 1, errno.ENOSPC),  # SQLite could not extend its log
        (IO_ERROR, 64 << 10, errno.EIO),
        (sqlite3.DatabaseError("malformed"), 0, errno.EIO),
    ],
)
def test_a_failed_write_says_whether_the_disk_is_full(
    state, monkeypatch, error, free_bytes, number
):
    with closing(Journal(state)) as journal:
        monkeypatch.setattr(journal, "_db", Broken(error))
        with_room(monkeypatch, free_bytes)
        for write in (
            lambda: journal.written(PATH, 0, 3),
            lambda: journal.complete([(PATH, RECORD)]),
        ):
            with pytest.raises(JournalError) as caught:
                write()
            assert caught.value.errno == number
            assert caught.value.filename == str(state / "journal.sqlite")


def test_a_failed_read_is_an_error_that_names_the_journal(state, monkeypatch):
    with closing(Journal(state)) as journal:
        monkeypatch.setattr(journal, "_db", Broken(sqlite3.DatabaseError("malformed")))
        for read in (lambda: list(journal.records()), lambda: journal.is_complete(PATH)):
            with pytest.raises(OutputError, match=r"journal\.sqlite cannot be used") as caught:
                read()
            assert "remove it" in caught.value.hint


def test_a_read_that_fails_in_its_middle_is_an_error(state):
    class Rows:
        def fetchmany(self, _count: int) -> None:
            raise IO_ERROR

    with closing(Journal(state)) as journal, pytest.raises(OutputError, match="disk I/O error"):
        journal._fetch(Rows())


def test_a_disk_that_does_not_report_its_room_is_not_full(state, monkeypatch):
    monkeypatch.setattr(journal_file.os, "statvfs", failing(errno.EIO))
    assert not journal_file.has_no_room(state / "journal.sqlite", IO_ERROR)
    assert journal_file.has_no_room(state / "journal.sqlite", FULL)


@pytest.mark.parametrize("reason", ["attempt to write a readonly database", "unable to open"])
def test_a_journal_of_another_user_has_the_remedy_of_sharing_it(state, reason):
    error = journal_file.unusable(state / "journal.sqlite", sqlite3.OperationalError(reason))
    assert error.hint.endswith(f"chmod -R g+rwX {state}")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "make room"),
        (errno.EACCES, "chmod -R g+rwX"),
        (errno.EPERM, "chmod -R g+rwX"),
        (errno.ELOOP, "remove it"),
        (errno.EEXIST, "remove it"),
        (errno.EIO, ""),
    ],
)
def test_the_remedy_for_a_directory_of_records_is_that_of_its_cause(
    state, monkeypatch, number, remedy
):
    monkeypatch.setattr(journal_file.Folder, "below", failing(number))
    with pytest.raises(OutputError) as caught:
        Journal(state)
    assert str(caught.value) == f"{state}: {os.strerror(number).lower()}"
    assert caught.value.hint.startswith(remedy) or remedy in caught.value.hint
    assert bool(caught.value.hint) == bool(remedy)


def test_records_in_a_directory_that_cannot_be_entered_do_not_count_as_empty(state, monkeypatch):
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(OutputError, match="permission denied") as caught:
        Journal(state, read_only=True)
    assert "chmod -R g+rwX" in caught.value.hint


@pytest.mark.parametrize("read_only", [False, True])
def test_a_database_that_cannot_be_opened_is_an_error_and_leaves_nothing_open(
    state, monkeypatch, read_only
):
    def refuse(*_arguments: object, **_keywords: object) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    Journal(state).close()
    before = descriptors_below(state)
    with monkeypatch.context() as patched:
        patched.setattr(journal_file, "connect", refuse)
        with pytest.raises(OutputError, match="unable to open"):
            Journal(state, read_only=read_only)
    assert descriptors_below(state) == before
    Journal(state).close()


def test_an_error_that_is_no_damage_renames_nothing(state, monkeypatch):
    with closing(Journal(state)) as journal:
        journal.complete([(PATH, RECORD)])

    def fail(_database: sqlite3.Connection) -> None:
        raise IO_ERROR

    with monkeypatch.context() as patched:
        patched.setattr(journal_file, "check", fail)
        with pytest.raises(OutputError, match="disk I/O error"):
            Journal(state)
    assert paths(state) == [PATH]
    assert not list(state.glob("*.damaged"))


def test_a_damaged_journal_is_renamed_and_a_new_one_begun(state, caplog):
    (state / "journal.sqlite").write_bytes(b"no database" * 1000)
    (state / "journal.sqlite-wal").write_bytes(b"its log")
    with closing(Journal(state)) as journal:
        journal.complete([(PATH, RECORD)])
    assert paths(state) == [PATH]
    assert (state / "journal.sqlite.damaged").read_bytes().startswith(b"no database")
    assert "it was renamed to journal.sqlite.damaged" in caplog.text


def test_a_second_prefetch_is_refused_and_names_the_process_of_the_first(state):
    with closing(Journal(state)):
        with pytest.raises(OutputError, match=rf"\(pid {os.getpid()}\)") as caught:
            Journal(state)
        assert "another prefetch is running" in str(caught.value)
    Journal(state).close()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_without_locks_on_the_filesystem_a_journal_is_used_with_a_warning(
    state, monkeypatch, caplog, number
):
    monkeypatch.setattr(fcntl, "flock", failing(number))
    with closing(Journal(state)) as journal:
        journal.complete([(PATH, RECORD)])
        assert journal.is_complete(PATH)
    assert "run one prefetch at a time" in caplog.text


def test_another_failure_of_the_lock_is_an_error_and_leaves_nothing_open(state, monkeypatch):
    before = descriptors_below(state)
    monkeypatch.setattr(fcntl, "flock", failing(errno.EIO))
    with pytest.raises(OutputError, match="input/output error"):
        Journal(state)
    assert descriptors_below(state) == before


def test_a_filesystem_that_cannot_map_files_gets_a_journal_without_shared_memory(
    state, monkeypatch
):
    with monkeypatch.context() as patched:
        patched.setattr(mmap, "mmap", failing(errno.ENODEV))
        with closing(Journal(state)) as journal:
            journal.complete([(PATH, RECORD)])
            assert not (state / "journal.sqlite-wal").exists()
            with closing(sqlite3.connect(state / "journal.sqlite")) as other:
                assert other.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert paths(state) == [PATH]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_probe_that_fails_because_of_the_disk_is_an_error(state, monkeypatch, number):
    monkeypatch.setattr(journal_file.os, "fsync", failing(number))
    with pytest.raises(OutputError, match=os.strerror(number).lower()):
        Journal(state)
    assert not list(state.glob("probe.*"))


def test_a_filesystem_that_cannot_sync_files_is_used_without_syncs(state, monkeypatch):
    monkeypatch.setattr(journal_file.os, "fsync", failing(errno.EINVAL))
    with closing(Journal(state)) as journal:
        journal.complete([(PATH, RECORD)])
        assert journal._db.execute("PRAGMA synchronous").fetchone() == (0,)
    assert paths(state) == [PATH]


def test_a_time_of_a_file_is_forgotten_once_the_file_has_that_of_its_object(state):
    for set_mtime_ns, expected in ((5 * 10**17, 5 * 10**17), (0, FACTS.mtime_ns)):
        with closing(Journal(state)) as journal:
            journal.complete([(PATH, replace(RECORD, set_mtime_ns=set_mtime_ns))])
        with closing(Journal(state, read_only=True)) as journal:
            [(_, found)] = journal.records()
            assert found.file_mtime_ns == expected


def test_without_the_id_of_the_boot_only_synced_bytes_count(state, monkeypatch):
    def journal_of_unknown_boot() -> Journal:
        with monkeypatch.context() as patched:
            patched.setattr(Path, "read_text", failing(errno.EACCES))
            return Journal(state)

    with closing(journal_of_unknown_boot()) as journal:
        journal.begin(PATH, RECORD.url, FACTS, "a.part")
        journal.written(PATH, 0, 1)
        journal.written(PATH, 1, 3)
        journal.synced(PATH, [(1, 3)])
        assert journal.partial_download(PATH).ranges == ((0, 1), (1, 3))
    with closing(journal_of_unknown_boot()) as journal:
        assert journal.partial_download(PATH).ranges == ((1, 3),)


def test_records_are_those_of_a_directory_and_not_those_below_it(state):
    names = ["v2/viz/a", "v2/viz/b", "v2/viz/below/c", "v2/viz-0/d", "v2/viz0", "v2/vi/e"]
    with closing(Journal(state)) as journal:
        journal.complete((name, RECORD) for name in names)
        assert [path for path, _ in journal.records("v2/viz")] == ["v2/viz/a", "v2/viz/b"]
        assert sorted(path for path, _ in journal.records()) == sorted(names)
        journal.remove(["v2/viz/a"])
        assert [path for path, _ in journal.records("v2/viz")] == ["v2/viz/b"]
