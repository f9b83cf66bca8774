"""Checksums of facts: a row that was changed is not used."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
import xxhash

from ego4dfs.errors import AccessDenied
from ego4dfs.facts import FactsIndex, table
from ego4dfs.store import ObjectFacts
from kit.fakes import CountingStore, FailingStore

URL, OTHER = "s3://b/a", "s3://b/bb"


@pytest.fixture
def store() -> FailingStore:
    return FailingStore({URL: b"12345", OTHER: b"1234567890"})


def changed(tmp_path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(tmp_path / "facts.sqlite", isolation_level=None)) as database:
        database.execute(statement, values)


def asked_once(tmp_path, store: CountingStore) -> None:
    facts = FactsIndex(tmp_path, store)
    facts.get(URL)
    facts.get(OTHER)
    facts.close()
    store.heads.clear()


@pytest.mark.fault(
    area="disk",
    fault="a changed byte in the stored facts of an object: size, ETag, version or time",
    face="all",
    sees="the facts are fetched again",
    deadline="at once, after one request",
)
@pytest.mark.parametrize(
    "change",
    [
        "size = 4",
        "size = 6",
        "size = 'x'",
        "size = -1",
        "etag = 'other'",
        "etag = x'ff00'",
        "etag = CAST(x'fffe' AS TEXT)",
        "version_id = 'v'",
        "mtime_ns = mtime_ns + 1",
        "proof = NULL",
        "proof = x'00'",
        f"url = '{URL}x'",
    ],
)
def test_a_row_that_was_changed_is_deleted_and_fetched_again(tmp_path, store, change):
    asked_once(tmp_path, store)
    changed(tmp_path, f"UPDATE facts SET {change} WHERE url = ?", URL)  # noqa: S608
    facts = FactsIndex(tmp_path, store)
    assert facts.peek(f"{URL}x") is None
    assert [facts.get(url).size for url in (OTHER, URL)] == [10, 5]
    assert store.heads == [URL]
    facts.close()
    again = FactsIndex(tmp_path, CountingStore())
    assert again.peek(URL) == store.head(URL)
    again.close()


def test_only_the_damaged_rows_are_deleted_from_the_table(tmp_path, store):
    asked_once(tmp_path, store)
    changed(tmp_path, "UPDATE facts SET size = 6 WHERE url = ?", URL)
    facts = FactsIndex(tmp_path, store)
    assert set(facts.peek_many([URL, OTHER])) == {OTHER}
    facts.close()
    with closing(sqlite3.connect(tmp_path / "facts.sqlite")) as database:
        assert database.execute("SELECT url FROM facts").fetchall() == [(OTHER,)]


def test_rows_that_were_swapped_are_deleted(tmp_path, store):
    asked_once(tmp_path, store)
    for old, new in ((URL, "s3://b/x"), (OTHER, URL), ("s3://b/x", OTHER)):
        changed(tmp_path, "UPDATE facts SET url = ? WHERE url = ?", new, old)
    facts = FactsIndex(tmp_path, store)
    assert [facts.get(url).size for url in (URL, OTHER)] == [5, 10]
    facts.close()


def test_a_refusal_that_was_changed_is_ignored(tmp_path, store):
    store.fail(AccessDenied("no", url=URL))
    facts = FactsIndex(tmp_path, store)
    with pytest.raises(AccessDenied):
        facts.get(URL)
    store.fail(None)
    with pytest.raises(AccessDenied):
        facts.get(URL)
    changed(tmp_path, "UPDATE refusals SET at = at + 1")
    assert facts.get(URL).size == 5
    facts.close()


def fill_as_a_version_without_checksums(tmp_path) -> None:
    changed(
        tmp_path,
        "CREATE TABLE facts (url TEXT PRIMARY KEY, size INTEGER NOT NULL, etag TEXT NOT NULL,"
        " version_id TEXT NOT NULL, mtime_ns INTEGER NOT NULL) WITHOUT ROWID",
    )
    changed(
        tmp_path,
        "CREATE TABLE refusals (url TEXT PRIMARY KEY, missing INTEGER NOT NULL,"
        " message TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID",
    )
    changed(tmp_path, "INSERT INTO facts VALUES (?, 5, 'etag', 'v', 7)", URL)


def test_rows_of_an_earlier_version_are_kept_and_get_their_checksums(tmp_path, store):
    """A cache of all of Ego4D has 9,645 of them: new requests would take minutes."""
    known = ObjectFacts(5, "etag", "v", 7)
    fill_as_a_version_without_checksums(tmp_path)
    facts = FactsIndex(tmp_path, store)
    assert facts.get(URL) == known
    assert facts.get(OTHER).size == 10
    assert store.heads == [OTHER]
    facts.close()
    changed(tmp_path, "UPDATE facts SET size = 6 WHERE url = ?", URL)
    again = FactsIndex(tmp_path, store)
    assert again.peek(URL) is None
    again.close()


def test_an_upgrade_that_another_process_completes_meanwhile_is_not_repeated(
    tmp_path, store, monkeypatch
):
    fill_as_a_version_without_checksums(tmp_path)
    has_checksums = table._has_checksums

    def upgraded_meanwhile(connection) -> bool:
        monkeypatch.setattr(table, "_has_checksums", has_checksums)
        before = has_checksums(connection)
        FactsIndex(tmp_path, store).close()  # the other process
        return before

    monkeypatch.setattr(table, "_has_checksums", upgraded_meanwhile)
    facts = FactsIndex(tmp_path, store)
    assert facts.get(URL) == ObjectFacts(5, "etag", "v", 7)
    assert store.heads == []
    facts.close()


def earlier_checksum(*values: object) -> bytes:
    return xxhash.xxh3_64_digest("\0".join(map(str, values)).encode("utf-8", "surrogatepass"))


def write_as_an_earlier_version(directory, *values: object) -> None:
    insert = "INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?, ?, ?)"
    changed(directory, insert, *values, earlier_checksum(*values))


def rows_of_an_earlier_version(directory) -> list[tuple[object, ...]]:
    """Return the rows that a version without confirmed sizes accepts; it deletes all others."""
    query = "SELECT url, size, etag, version_id, mtime_ns, proof FROM facts ORDER BY url"
    with closing(sqlite3.connect(directory / "facts.sqlite")) as database:
        rows = database.execute(query).fetchall()
    assert [row[-1] for row in rows] == [earlier_checksum(*row[:-1]) for row in rows]
    return [row[:-1] for row in rows]


def test_confirmed_sizes_are_stored_and_rows_of_an_earlier_version_are_unconfirmed(tmp_path, store):
    changed(
        tmp_path,
        "CREATE TABLE facts (url TEXT PRIMARY KEY, size INTEGER NOT NULL, etag TEXT NOT NULL,"
        " version_id TEXT NOT NULL, mtime_ns INTEGER NOT NULL, proof BLOB) WITHOUT ROWID",
    )
    third = "s3://b/third"
    write_as_an_earlier_version(tmp_path, URL, 5, "etag", "v", 7)
    facts = FactsIndex(tmp_path, store)
    known = facts.get(URL)
    assert (known, known.has_confirmed_size) == (ObjectFacts(5, "etag", "v", 7), False)
    facts.confirm(URL, 6, "etag")  # not the known facts
    facts.confirm(URL, 5, "new")
    assert not facts.get(URL).has_confirmed_size
    facts.confirm(URL, 5, "etag")
    facts.confirm(OTHER, 10, "other")  # nothing is known of it
    facts.record(OTHER, ObjectFacts(10, "other", "v", 8))
    write_as_an_earlier_version(tmp_path, third, 3, "third", "", 9)
    assert facts.get(third) == ObjectFacts(3, "third", "", 9)
    facts.close()
    expected = [(URL, 5, "etag", "v", 7), (OTHER, 10, "other", "v", 8), (third, 3, "third", "", 9)]
    assert rows_of_an_earlier_version(tmp_path) == sorted(expected)
    again = FactsIndex(tmp_path, store)
    confirmed = [again.get(url).has_confirmed_size for url in (URL, OTHER, third)]
    assert confirmed == [True, False, False]
    again.close()


def test_a_confirmation_does_not_restore_a_row_that_another_process_has_deleted(tmp_path, store):
    facts = FactsIndex(tmp_path, store)
    facts.record(URL, ObjectFacts(5, "etag", "v", 7))
    other = FactsIndex(tmp_path, store)
    other.remove(URL)
    facts.confirm(URL, 5, "etag")
    facts.close()
    assert other.peek(URL) is None
    other.close()


@pytest.mark.parametrize(("size", "etag"), [(6, "etag"), (5, "new")])
def test_a_confirmed_size_is_not_one_of_other_facts(tmp_path, store, size, etag):
    facts = FactsIndex(tmp_path, store)
    facts.record(URL, ObjectFacts(5, "etag", "v", 7).confirmed())
    facts.close()
    write_as_an_earlier_version(tmp_path, URL, size, etag, "v", 7)
    again = FactsIndex(tmp_path, store)
    assert again.get(URL) == ObjectFacts(size, etag, "v", 7)
    assert not again.get(URL).has_confirmed_size
    again.remove(URL)
    again.record(URL, ObjectFacts(5, "etag", "v", 7))
    again.close()
    last = FactsIndex(tmp_path, store)
    assert not last.get(URL).has_confirmed_size
    last.close()


@pytest.mark.parametrize(
    "change", ["size = 6", "etag = 'new'", "proof = x'00'", "url = 's3://b/bb'"]
)
def test_a_damaged_confirmation_confirms_nothing(tmp_path, store, change):
    facts = FactsIndex(tmp_path, store)
    facts.record(URL, ObjectFacts(5, "etag", "v", 7).confirmed())
    facts.record(OTHER, ObjectFacts(5, "etag", "v", 7))
    facts.close()
    changed(tmp_path, f"UPDATE confirmed SET {change} WHERE url = ?", URL)  # noqa: S608
    again = FactsIndex(tmp_path, store)
    for url in (URL, OTHER):
        assert again.get(url) == ObjectFacts(5, "etag", "v", 7)
        assert not again.get(url).has_confirmed_size
    again.close()


@pytest.mark.parametrize(
    "impossible",
    [
        ObjectFacts(1 << 63, "etag", "", 7),
        ObjectFacts(-1, "etag", "", 7),
        ObjectFacts(5, "etag", "", 1 << 63),
        ObjectFacts(5, "\udcff", "", 7),
        ObjectFacts(5, "etag", "\udcff", 7),
    ],
)
def test_facts_that_sqlite_cannot_store_do_not_affect_other_facts(tmp_path, store, impossible):
    facts = FactsIndex(tmp_path, store)
    facts.record(URL, impossible)
    facts.record(OTHER, ObjectFacts(10, "other", "v", 8))
    facts.close()
    again = FactsIndex(tmp_path, store)
    assert again.peek(URL) is None
    assert again.peek(OTHER) == ObjectFacts(10, "other", "v", 8)
    again.close()


@pytest.mark.parametrize("size", [-5, 1 << 60, "many"])
def test_a_row_with_an_impossible_size_is_unknown(tmp_path, store, size):
    FactsIndex(tmp_path, store).close()
    write_as_an_earlier_version(tmp_path, URL, size, "etag", "v", 7)
    again = FactsIndex(tmp_path, store)
    assert again.peek(URL) is None
    assert again.totals() == (0, 0)
    again.close()
