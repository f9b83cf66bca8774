"""SQLite databases: transactions that keep the cause of a failure, and errors by kind."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from contextlib import closing, suppress

import pytest

from ego4dfs import sqlite
from ego4dfs.copies.journal import Journal, JournalError
from ego4dfs.copies.journal_file import has_no_room, unusable
from ego4dfs.facts import FactsIndex
from ego4dfs.sqlite import (
    connect,
    copy_database,
    is_damaged,
    is_full,
    is_locked,
    read_only_uri,
    remedy,
    retry_while_locked,
    transaction,
)
from ego4dfs.store import ObjectFacts
from kit.cache import PutResults, key_of, open_cache
from kit.fakes import CountingStore

ROW = "x" * 3000


def limited(path, **options):
    """Open a database that cannot grow by more than a few pages: a disk that is full."""
    database = connect(path, **options)
    database.execute("CREATE TABLE IF NOT EXISTS filler (content TEXT)")
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages + 4}")
    return database


def insert(database, *rows):
    with transaction(database):
        for row in rows:
            database.execute(f"INSERT INTO {row}")


@pytest.fixture
def two(tmp_path):
    """Two connections to one database: ours, and one of another process."""
    path = tmp_path / "a.sqlite"
    ours, other = (connect(path, lock_wait_s=0) for _ in range(2))
    with closing(ours), closing(other):
        yield ours, other


def test_a_transaction_is_committed_at_the_end_of_its_block(tmp_path):
    with closing(connect(tmp_path / "a.sqlite", lock_wait_s=0)) as database:
        database.execute("CREATE TABLE t (v)")
        with transaction(database):
            database.execute("INSERT INTO t VALUES (1)")
        assert not database.in_transaction
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            insert(database, "t VALUES (2)", "missing VALUES (3)")
        assert database.execute("SELECT v FROM t").fetchall() == [(1,)]


def test_a_transaction_that_fills_the_disk_raises_that_cause(tmp_path):
    """SQLite has rolled it back by then: COMMIT would raise "no transaction is active"."""
    with closing(limited(tmp_path / "a.sqlite", lock_wait_s=0)) as database:
        with pytest.raises(sqlite3.OperationalError) as caught:
            insert(database, *[f"filler VALUES ('{ROW}')"] * 100)
        assert str(caught.value) == "database or disk is full"
        assert is_full(caught.value)
        assert not database.in_transaction
        insert(database, "filler VALUES ('small')")


@pytest.mark.fault(
    area="disk",
    fault="the disk is full when facts are written",
    face="all",
    sees="a warning `database or disk is full`; reads continue",
    deadline="at once",
)
def test_facts_that_do_not_fit_on_the_disk_are_reported_as_that(tmp_path, monkeypatch, caplog):
    FactsIndex(tmp_path, CountingStore()).close()
    monkeypatch.setattr("ego4dfs.facts.table.connect", limited)
    index = FactsIndex(tmp_path, CountingStore())
    for number in range(20):
        index.record(f"s3://b/{number}/{ROW}", ObjectFacts(1, "e", "", 1))
    assert "the facts index cannot be written: database or disk is full" in caplog.text
    assert index.peek(f"s3://b/19/{ROW}") == ObjectFacts(1, "e", "", 1)
    index.close()


def test_blocks_whose_rows_do_not_fit_on_the_disk_are_reported_as_that(
    tmp_path, monkeypatch, caplog
):
    open_cache(tmp_path).close()
    monkeypatch.setattr("ego4dfs.cache.database.connect", limited)
    cache = open_cache(tmp_path)
    stored = []
    for number in range(20):
        results = PutResults()
        cache.put(key_of(number), f"s3://b/{ROW}", memoryview(b"x"), results)
        stored += results.wait(1)
    assert not all(stored)
    assert "the cache cannot be written: database or disk is full" in caplog.text
    cache.close()


@pytest.mark.parametrize(
    ("message", "number"),
    [("database or disk is full", errno.ENOSPC), ("disk I/O error", errno.EIO)],
    ids=str,
)
def test_a_journal_that_cannot_be_written_reports_a_full_disk_only_if_it_is_full(
    tmp_path, monkeypatch, message, number
):
    def failing(_):
        raise sqlite3.OperationalError(message)

    (tmp_path / ".ego4dfs").mkdir()
    with closing(Journal(tmp_path / ".ego4dfs")) as journal:
        monkeypatch.setattr("ego4dfs.copies.journal.transaction", failing)
        with pytest.raises(JournalError, match=message) as caught:
            journal.remove(["v2/clips/a.mp4", "v2/clips/b.mp4"])
    assert caught.value.errno == number


def test_an_io_error_on_a_disk_without_room_is_a_full_disk(small_disk):
    broken = sqlite3.OperationalError("disk I/O error")
    assert not has_no_room(small_disk / "journal", broken)
    with (small_disk / "rest").open("wb", buffering=0) as rest, suppress(OSError):
        while rest.write(bytes(1 << 16)):
            pass
    assert has_no_room(small_disk / "journal", broken)
    assert not has_no_room(small_disk / "journal", sqlite3.OperationalError("no such table: x"))
    assert str(unusable(small_disk / "journal", broken)).endswith("no space left on device")


def test_an_error_is_classified_by_its_cause():
    full = sqlite3.OperationalError("database or disk is full")
    locked = sqlite3.OperationalError("database is locked")
    damaged = sqlite3.DatabaseError("database disk image is malformed")
    broken = sqlite3.OperationalError("disk I/O error")
    errors = (full, locked, damaged, broken)
    assert [is_full(error) for error in errors] == [True, False, False, False]
    assert [is_locked(error) for error in errors] == [False, True, False, False]
    assert [is_damaged(error) for error in errors] == [False, False, True, False]


def test_an_operation_is_retried_while_another_process_holds_the_database(two):
    ours, other = two
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.1, other.execute, ("COMMIT",))
    release.start()
    retry_while_locked(lambda: ours.execute("CREATE TABLE t (v)"), wait_s=5)
    release.join()
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        retry_while_locked(lambda: ours.execute("INSERT INTO t VALUES (1)"), wait_s=0)


def test_a_copy_waits_for_another_process_only_so_long(two, tmp_path):
    ours, other = two
    with closing(connect(tmp_path / "b.sqlite", lock_wait_s=0)) as source:
        source.execute("CREATE TABLE t (v)")
        insert(source, "t VALUES ('x')")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="database is locked"):
            copy_database(source, ours, wait_s=0.1)
        release = threading.Timer(0.1, other.execute, ("COMMIT",))
        release.start()
        copy_database(source, ours, wait_s=5)
    assert ours.execute("SELECT v FROM t").fetchall() == [("x",)]


def test_a_copy_that_does_not_fit_on_the_disk_is_an_error(small_disk):
    (small_disk / ".ego4dfs").mkdir()
    with closing(Journal(small_disk / ".ego4dfs")) as journal, closing(Journal.empty()) as large:
        large._db.execute("CREATE TABLE filler (content TEXT)")
        insert(large._db, *(f"filler VALUES ('{'x' * (1 << 20)}')" for _ in range(45)))
        with pytest.raises(JournalError) as caught:
            journal.copy_all(large)
        assert caught.value.errno == errno.ENOSPC
        journal.confirm(["v2/clips/a.mp4"])


def test_fork_lock_is_free_between_two_attempts(two):
    ours, other = two
    other.execute("BEGIN EXCLUSIVE")
    waiting = threading.Thread(
        target=retry_while_locked,
        args=(lambda: ours.execute("CREATE TABLE t (v)"),),
        kwargs={"wait_s": 120},
    )
    waiting.start()
    assert sqlite.fork_lock.acquire(timeout=60)
    other.execute("COMMIT")
    sqlite.fork_lock.release()
    waiting.join()


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ("database or disk is full", "make room"),
        ("[Errno 28] No space left on device", "make room"),
        ("database is locked", "another process holds it; try again"),
        ("database disk image is malformed", "`ego4dfs x` makes a new one"),
    ],
)
def test_the_remedy_of_an_error_is_what_its_cause_needs(message, found):
    assert found in remedy(sqlite3.OperationalError(message), clear="ego4dfs x")


def test_a_file_that_is_no_database_counts_as_damaged(tmp_path):
    (tmp_path / "x.sqlite").write_bytes(b"no database at all" * 100)
    with closing(connect(tmp_path / "x.sqlite", lock_wait_s=0)) as database:
        with pytest.raises(sqlite3.DatabaseError) as caught:
            database.execute("SELECT * FROM sqlite_master")
        assert is_damaged(caught.value)
    assert not is_damaged(sqlite3.OperationalError("database is locked"))
    assert not is_damaged(ValueError("malformed"))


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_only_an_idle_database_with_a_log_is_opened_as_immutable(tmp_path, mode):
    """A process that writes would not be seen; SQLite needs no file beside one without a log."""
    path = tmp_path / "a b.sqlite"
    with closing(connect(path, lock_wait_s=0)) as database:
        database.execute(f"PRAGMA journal_mode = {mode}")
        database.execute("CREATE TABLE t (x)")
        assert read_only_uri(path) == f"file://{tmp_path}/a%20b.sqlite?mode=ro"
    idle = "&immutable=1" if mode == "WAL" else ""
    assert read_only_uri(path) == f"file://{tmp_path}/a%20b.sqlite?mode=ro{idle}"
    assert read_only_uri(tmp_path / "missing") == ""
    (tmp_path / "directory").mkdir()
    assert read_only_uri(tmp_path / "directory").endswith("mode=ro")
    (tmp_path / "short").write_bytes(b"x")
    assert read_only_uri(tmp_path / "short").endswith("mode=ro")


def test_a_connection_that_cannot_be_closed_does_not_prevent_a_fork(caplog):
    closed = []

    class Owner:
        def __init__(self, error):
            self.error = error

        def disconnect(self):
            closed.append(self)
            if self.error:
                raise self.error

    owners = [Owner(None), Owner(sqlite3.ProgrammingError("x")), Owner(None)]
    for owner in owners:
        sqlite.disconnect_at_forks(owner)
    child = os.fork()
    if not child:
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert set(closed) >= set(owners)
    assert "was not closed before a fork" in caplog.text
    assert sqlite.fork_lock.acquire(timeout=60)
    sqlite.fork_lock.release()
