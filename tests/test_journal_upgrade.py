"""A journal of the previous version, whose tables had other names, is used unchanged."""

from __future__ import annotations

import os
import sqlite3
import time

import pytest

from ego4dfs.copies import Copies, Journal, State
from ego4dfs.prefetch import Status
from kit.copies import Bench
from kit.data import MIB, seeded
from kit.fakes import FailingStore

# What `.schema` said of a journal of commit 9d784fd.
SCHEMA = """
CREATE TABLE files (
    path TEXT PRIMARY KEY, url TEXT NOT NULL, source TEXT NOT NULL, release TEXT NOT NULL,
    size INTEGER NOT NULL, etag TEXT NOT NULL, version_id TEXT NOT NULL, mtime_ns INTEGER NOT NULL,
    checksum TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE parts (
    path TEXT PRIMARY KEY, url TEXT NOT NULL, etag TEXT NOT NULL, size INTEGER NOT NULL,
    part_name TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE ranges (
    path TEXT NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL, boot TEXT NOT NULL,
    PRIMARY KEY (path, start)
) WITHOUT ROWID;
CREATE TABLE asked (path TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE evidence (
    source TEXT NOT NULL, bucket TEXT NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL,
    PRIMARY KEY (source, bucket, kind, detail)
) WITHOUT ROWID;
CREATE TABLE times (path TEXT PRIMARY KEY, mtime_ns INTEGER NOT NULL) WITHOUT ROWID;
"""
DONE, BEGUN = seeded("done", 5000), seeded("begun", 12 * MIB)
HAVE = 8 * MIB


@pytest.fixture
def bench(tmp_path):
    """A directory in which the previous version completed one file and was killed in another."""
    made = Bench(tmp_path, FailingStore())
    made.journal.close()
    for path in made.layout.state.iterdir():
        path.unlink()
    made.put(done=DONE, begun=BEGUN)
    facts = {name: made.store.head(f"s3://b/{name}.mp4") for name in ("done", "begun")}
    made.store.heads.clear()
    done, begun = facts["done"], facts["begun"]
    (made.directory / "done.mp4").write_bytes(DONE)
    os.utime(made.directory / "done.mp4", ns=(done.mtime_ns, done.mtime_ns))
    (made.directory / ".ego4dfs").mkdir()
    (made.directory / ".ego4dfs/begun.mp4.part").write_bytes(BEGUN[:HAVE])
    database = sqlite3.connect(made.layout.state / "journal.sqlite")
    with database:
        database.executescript(SCHEMA)
        database.execute(
            "INSERT INTO files VALUES ('v9/clips/done.mp4', 's3://b/done.mp4', ?, 'v9_1',"
            " ?, ?, ?, ?, 'md5')",
            (made.store.source, done.size, done.etag, done.version_id, done.mtime_ns),
        )
        database.execute("INSERT INTO asked VALUES ('v9/clips/done.mp4', ?)", (time.time(),))
        database.execute(
            "INSERT INTO parts VALUES ('v9/clips/begun.mp4', 's3://b/begun.mp4', ?, ?, ?)",
            (begun.etag, begun.size, ".ego4dfs/begun.mp4.part"),
        )
        database.execute("INSERT INTO ranges VALUES ('v9/clips/begun.mp4', 0, ?, '')", (HAVE,))
    database.close()
    yield made
    made.close()


def tables(bench):
    database = sqlite3.connect(bench.layout.state / "journal.sqlite")
    names = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    database.close()
    return names


def test_complete_files_are_kept_and_unfinished_ones_are_resumed(bench):
    bench.journal = Journal(bench.layout.state)
    plan = bench.plan()
    assert (plan.count(State.RIGHT), plan.partial_bytes) == (1, HAVE)
    report = bench.fetch(plan)
    assert (report.counts[Status.SKIPPED], report.counts[Status.DONE]) == (1, 1)
    assert (report.resumed_bytes, report.fetched_bytes) == (HAVE, len(BEGUN) - HAVE)
    assert (bench.directory / "begun.mp4").read_bytes() == BEGUN
    assert not tables(bench) & {"parts", "asked"}
    [checked] = [r.checked_s for p, r in bench.journal.records() if p.endswith("done.mp4")]
    assert checked > 0


def test_a_reader_changes_nothing(bench):
    """A mount and a dry run read it where it cannot be written."""
    before = (bench.layout.state / "journal.sqlite").read_bytes()
    bench.journal = Journal(bench.layout.state, read_only=True)
    plan = bench.plan()
    assert (plan.count(State.RIGHT), plan.partial_bytes) == (1, HAVE)
    copies = Copies(bench.layout.root, bench.store.source, lambda _text: None)
    facts = copies.facts("v9/clips/done.mp4", "s3://b/done.mp4")
    assert facts is not None
    assert copies.find_valid("v9/clips/done.mp4", "s3://b/done.mp4", facts)
    copies.close()
    assert (bench.layout.state / "journal.sqlite").read_bytes() == before
    assert "parts" in tables(bench)
