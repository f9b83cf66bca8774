"""Messages about an index that cannot be used: the remedy for the cause, once a minute."""

from __future__ import annotations

import sqlite3

import pytest

from ego4dfs.errors import CacheError
from ego4dfs.facts import FactsIndex
from ego4dfs.runtime import throttled_log
from ego4dfs.store import ObjectFacts
from kit.cache import PutResults, block_file, key_of, open_cache
from kit.fakes import CountingStore

CAUSES = [
    (sqlite3.OperationalError("database or disk is full"), "make room"),
    (OSError(28, "No space left on device"), "make room"),
    (sqlite3.OperationalError("database is locked"), "another process"),
    (sqlite3.DatabaseError("file is not a database"), "cache clear"),
    (sqlite3.DatabaseError("database disk image is malformed"), "cache clear"),
]


@pytest.fixture(autouse=True)
def briefly(monkeypatch):
    monkeypatch.setattr("ego4dfs.cache.index.COMMAND_LOCK_WAIT_S", 0.1)


@pytest.mark.parametrize(("error", "remedy"), CAUSES)
def test_the_remedy_for_the_block_index_is_that_of_its_cause(tmp_path, monkeypatch, error, remedy):
    monkeypatch.setattr("ego4dfs.cache.database.BlockDatabase", Refusing(error))
    with pytest.raises(CacheError) as caught:
        open_cache(tmp_path)
    assert remedy in caught.value.hint


@pytest.mark.parametrize(
    ("error", "remedy"),
    [c for c in CAUSES if isinstance(c[0], sqlite3.Error) and c[1] != "another process"],
)
def test_the_remedy_for_the_facts_is_that_of_its_cause(tmp_path, monkeypatch, error, remedy):
    monkeypatch.setattr("ego4dfs.facts.table.connect", Refusing(error))
    with pytest.raises(CacheError) as caught:
        FactsIndex(tmp_path, CountingStore())
    assert remedy in caught.value.hint


class Refusing:
    """Raises the error at every call."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __call__(self, *_: object, **__: object) -> None:
        raise self._error


class Clock:
    """time.monotonic() that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(throttled_log.time, "monotonic", lambda: self.now)


def test_facts_that_cannot_be_written_are_reported_once_a_minute(tmp_path, caplog, monkeypatch):
    index = FactsIndex(tmp_path, CountingStore())
    with sqlite3.connect(tmp_path / "facts.sqlite") as db:
        db.execute("DROP TABLE facts")
    with monkeypatch.context() as patch:
        clock = Clock(patch)
        for number in range(10):
            index.record(f"s3://b/{number}", ObjectFacts(1, "e", "", 1))
        assert len(caplog.records) == 1
        clock.now += 61
        index.record("s3://b/10", ObjectFacts(1, "e", "", 1))
        assert len(caplog.records) == 2
    index.close()


def test_a_cache_that_cannot_be_written_is_reported_once_a_minute(tmp_path, caplog, metrics):
    cache = open_cache(tmp_path, metrics=metrics)
    block_file(tmp_path, 1).parent.write_text("in the way")
    for _ in range(10):
        results = PutResults()
        cache.put(key_of(1), "s3://b/k", memoryview(b"x"), results)
        assert results.wait(1) == [False]
    assert len(caplog.records) == 1
    assert metrics.errors == 10
    cache.close()
