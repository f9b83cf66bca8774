"""Values of another type in our own databases: a user or another program may have edited them."""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import closing

import pytest

from ego4dfs.cache import BlockCache, prepare_directory
from ego4dfs.cli import main
from ego4dfs.copies import Copies, Journal, Record
from ego4dfs.copies.etag_trust import BucketEtags
from ego4dfs.copies.journal_tables import TABLES
from ego4dfs.errors import Ego4DError, StoreError
from ego4dfs.facts import FactsIndex
from ego4dfs.metrics import Metrics
from ego4dfs.store import ObjectFacts
from kit.cache import UNIT, bytes_of, got, key_of, put
from kit.fakes import CountingStore

pytestmark = pytest.mark.first_pass

VALUES = ["abc", "", "12x", -5, 2**62, 1.5, 9e999, b"\xff\xfe", None, "not UTF-8"]
FACTS = ObjectFacts(100, "e" * 32, "v", 10**18)


def edited(database, table, column, value, where="TRUE"):
    """Change a column as a user would; return False where its declaration forbids the value."""
    expression = "CAST(x'ff41fe' AS TEXT)" if value == "not UTF-8" else "?"
    with closing(sqlite3.connect(database)) as db, db:
        try:
            db.execute(
                f"UPDATE {table} SET {column} = {expression} WHERE {where}",  # noqa: S608
                () if value == "not UTF-8" else (value,),
            )
        except sqlite3.IntegrityError:
            return False
    return True


def refusal(call, *what):
    """Return the Ego4DError that a call raises, or None; any other error fails the test."""
    try:
        call()
    except Ego4DError as error:
        return error
    except Exception as error:
        raise AssertionError(what) from error
    return None


def columns(table):
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute(f"CREATE TABLE {table} ({TABLES[table]})")
        return [row[1] for row in db.execute(f"PRAGMA table_info({table})")]


def filled(state):
    """Write two rows into each table of a journal; the first one is then edited."""
    state.mkdir(parents=True)
    journal = Journal(state)
    record = Record("s3://b/x", "there", "v2", FACTS, "md5", set_mtime_ns=5 * 10**9)
    journal.complete([("v2/viz/a", record), ("v2/viz/z", record)])
    for name in ("a.mp4", "z.mp4"):
        path = f"v2/clips/{name}"
        journal.begin(path, f"s3://b/{name}", FACTS, f".ego4dfs/{name}.part")
        journal.written(path, 0, 50)
    journal.note_evidence("there", "b", "parts", "8")
    journal.note_evidence("there", "z", "parts", "8")
    journal.close()
    return state / "journal.sqlite"


FIRST = {
    "evidence": "bucket = 'b'",
    "downloads": "path = 'v2/clips/a.mp4'",
    "ranges": "path = 'v2/clips/a.mp4'",
}


def read(state, *, read_only):
    """Read all that a run or a mount reads; check that rows which were not edited are used."""
    with closing(Journal(state, read_only=read_only)) as journal:
        found = dict(journal.records("v2/viz"))
        assert found["v2/viz/z"].facts == FACTS
        assert found["v2/viz/z"].checked_s <= time.time()
        assert all(type(record.facts.size) is int for record in found.values())
        etags = BucketEtags(journal, "there")
        assert etags.are_checksums("s3://z/k")
        assert journal.partial_bytes()["v2/clips/z.mp4"] == 50
        partial = journal.partial_download("v2/clips/z.mp4")
        assert (partial.size, partial.ranges) == (100, ((0, 50),))
        other = journal.partial_download("v2/clips/a.mp4")
        assert other is None or (type(other.size) is int and other.part_name.endswith(".part"))


@pytest.mark.fault(
    area="disk",
    fault="a journal, facts or cache database with values that ego4dfs did not write",
    face="all",
    sees="these rows count as absent, or one line says which file to remove",
    deadline="at once",
)
@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("table", TABLES)
def test_an_edited_row_of_the_journal_does_not_count(tmp_path, table, read_only):
    for number, (column, value) in enumerate((c, v) for c in columns(table) for v in VALUES):
        state = tmp_path / str(number) / ".ego4dfs"
        database = filled(state)
        if not edited(database, table, column, value, FIRST.get(table, "path = 'v2/viz/a'")):
            continue
        error = refusal(lambda: read(state, read_only=read_only), column, value)  # noqa: B023
        assert error is None or value == "not UTF-8", (column, value, error)
        assert error is None or "remove it" in error.hint
        if read_only:
            Copies(state.parent, "there", lambda _: None).close()


def test_deleted_rows_are_reported_once(tmp_path, caplog):
    state = tmp_path / ".ego4dfs"
    edited(filled(state), "files", "size", "abc")
    Journal(state).close()
    assert "journal.sqlite: 2 rows that are not valid were deleted" in caplog.text
    caplog.clear()
    Journal(state).close()
    assert caplog.text == ""


@pytest.mark.parametrize("name", ["notes.txt", "/x.part", "../x.part", ".ego4dfs/../notes"])
def test_an_edited_name_of_a_part_file_touches_no_other_file(bench, name):
    """Earlier versions kept part files beside the copies, and these are moved or removed."""
    bench.put(a=b"a" * 100)
    mine = bench.directory / name.rpartition("/")[2]
    bench.directory.mkdir(parents=True, exist_ok=True)
    mine.write_bytes(b"mine")
    bench.journal.begin("v9/clips/a.mp4", "s3://b/a.mp4", FACTS, name)
    bench.journal.close()
    bench.journal = Journal(bench.layout.state)
    bench.fetch()
    assert mine.read_bytes() == b"mine"
    assert (bench.directory / "a.mp4").read_bytes() == b"a" * 100


def test_evidence_of_an_unknown_kind_proves_nothing(tmp_path):
    state = tmp_path / ".ego4dfs"
    database = filled(state)
    edited(database, "files", "checksum", "size")
    edited(database, "evidence", "kind", "sha256")
    with closing(Journal(state, read_only=True)) as journal:
        assert not BucketEtags(journal, "there").are_checksums("s3://z/k")


def test_a_check_in_the_future_is_repeated(bench):
    """The clock was wrong when the copy was checked."""
    bench.put(a=b"a" * 100)
    bench.fetch()
    heads = len(bench.store.heads)
    bench.plan()
    assert len(bench.store.heads) == heads
    with closing(sqlite3.connect(bench.layout.state / "journal.sqlite")) as db, db:
        db.execute("UPDATE checked SET at = at + 1e9")
    bench.plan()
    assert len(bench.store.heads) == heads + 1


FACTS_COLUMNS = [
    *(("facts", name) for name in ("url", "size", "etag", "version_id", "mtime_ns", "proof")),
    *(("confirmed", name) for name in ("url", "size", "etag", "proof")),
    *(("refusals", name) for name in ("url", "missing", "message", "at", "proof")),
]


@pytest.mark.parametrize(("table", "column"), FACTS_COLUMNS)
def test_an_edited_row_of_the_facts_is_fetched_again(tmp_path, table, column):
    store = CountingStore({"s3://b/a": b"a" * 100})
    want = store.head("s3://b/a")
    for number, value in enumerate(VALUES):
        directory = tmp_path / str(number)
        directory.mkdir()
        index = FactsIndex(directory, store)
        index.record("s3://b/a", want.confirmed())
        with pytest.raises(StoreError):
            index.get("s3://b/gone")
        index.close()
        if not edited(directory / "facts.sqlite", table, column, value):
            continue
        with closing(FactsIndex(directory, store)) as index:
            index.totals()
            assert index.get("s3://b/a") == want
            with pytest.raises(StoreError):
                index.get("s3://b/gone")


CACHE_VALUES = ["abc", -5, 2**62, 9e999, b"\xff\xfe", None]
SETTINGS = [
    "count",
    "size",
    "hits",
    "misses",
    "size_limit",
    "cull_limit",
    "statistics",
    "eviction_policy",
    "tag_index",
    "sqlite_cache_size",
    "sqlite_journal_mode",
]
ROWS = [
    "key",
    "raw",
    "store_time",
    "expire_time",
    "access_time",
    "access_count",
    "tag",
    "size",
    "mode",
    "filename",
    "value",
]


@pytest.fixture(scope="module")
def filled_cache(tmp_path_factory):
    directory = tmp_path_factory.mktemp("filled")
    with closing(BlockCache(prepare_directory(directory), Metrics(), max_bytes=1 << 28)) as cache:
        put(cache, 1, 2)
    return directory


@pytest.mark.parametrize("change", [*SETTINGS, *(f"Cache.{name}" for name in ROWS)])
def test_an_edited_index_of_the_cache_is_used_or_named(filled_cache, tmp_path, change):
    """If it is named, `cache clear` makes a new one."""
    for number, value in enumerate(CACHE_VALUES):
        directory = tmp_path / str(number)
        shutil.copytree(filled_cache, directory)
        database = directory / "v1/blocks/cache.db"
        if change in SETTINGS:
            edited(database, "Settings", "value", value, f"key = '{change}'")
        elif not edited(database, "Cache", change.partition(".")[2], value):
            continue
        error = refusal(lambda: used(directory), value)  # noqa: B023
        if error is not None:
            assert "cache clear" in error.hint, (value, error)
            assert main(["cache", "clear", "--cache-dir", str(directory)]) == 0, value
            used(directory)


def used(directory):
    """Do all that a mount and the commands do; no bytes are wrong."""
    with closing(BlockCache(prepare_directory(directory), Metrics())) as cache:
        for number in (1, 2, 3):
            assert got(cache, number) in (None, bytes_of(key_of(number), UNIT))
        put(cache, 3)
        admin = cache.admin
        assert (admin.max_bytes > 0, admin.used_bytes > 0, admin.eviction != "") == (True,) * 3
        assert admin.pins() == [] or admin.bytes_left_to_pin < admin.max_bytes
        admin.verify()
        assert got(cache, 3) == bytes_of(key_of(3), UNIT)
        admin.unpin(None)
        admin.clear()


@pytest.mark.parametrize("name", ["../../../mine", "{directory}/mine", "..", "", "v1/.."])
def test_an_edited_index_removes_no_other_file(filled_cache, tmp_path, name):
    """The index names a file for each block; eviction and `clear` remove it."""
    directory = tmp_path / "cache"
    shutil.copytree(filled_cache, directory)
    mine = directory / "mine"
    mine.write_bytes(b"mine")
    value = name.format(directory=directory)
    edited(directory / "v1/blocks/cache.db", "Cache", "filename", value)
    with closing(BlockCache(prepare_directory(directory), Metrics())) as cache:
        cache.admin.clear()
    assert mine.read_bytes() == b"mine"
