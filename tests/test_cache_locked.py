"""A cache index that another process has locked: hits are served, and nothing waits."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from ego4dfs.cache import blockcache, blockfile, index
from ego4dfs.errors import CacheError
from kit.cache import UNIT, PutResults, bytes_of, got, key_of, open_cache, put
from kit.clock import Clock
from kit.locked_sqlite import locked


@pytest.fixture(autouse=True)
def briefly(monkeypatch):
    monkeypatch.setattr(index, "WRITE_LOCK_WAIT_S", 0.3)
    monkeypatch.setattr(index, "COMMAND_LOCK_WAIT_S", 0.5)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """The time by which an index that was found locked counts as locked."""
    made = Clock()
    monkeypatch.setattr(index, "time", SimpleNamespace(monotonic=made))
    return made


def database(cache_dir):
    return cache_dir / "v1" / "blocks" / "cache.db"


def put_unstored(cache, number: int) -> None:
    results, key = PutResults(), key_of(number)
    cache.put(key, "s3://b/k", memoryview(bytes_of(key, UNIT)), results)
    assert results.wait(1) == [False]


@pytest.mark.fault(
    area="disk",
    fault="another process locks the cache index and never releases it",
    face="all",
    sees="cached blocks are served; blocks fetched meanwhile are not cached; `status` says so",
    deadline="0.1 s, at most once in 3 s",
)
@pytest.mark.parametrize("against", ["writers", "all"])
def test_hits_and_usage_do_not_wait_for_a_process_that_locks_the_index(tmp_path, clock, against):
    cache = open_cache(tmp_path)
    put(cache, 1, 2)
    assert got(cache, 1) == bytes_of(key_of(1), UNIT)
    before = cache.usage()
    cache._index.disconnect()
    with locked(database(tmp_path), against=against):
        unstored = threading.Thread(target=put_unstored, args=(cache, 3))
        unstored.start()
        for _ in range(50):  # a wait of 30 s for each would end in pytest's timeout
            assert got(cache, 2) == bytes_of(key_of(2), UNIT)
            assert cache.usage().used_bytes == before.used_bytes
            assert cache.readahead.current() is not None
        unstored.join()
        assert cache.usage().is_locked
        put_unstored(cache, 4)
    assert cache.usage().is_locked
    clock.now_s += index.LOCKED_S
    assert not cache.usage().is_locked
    put(cache, 5)
    assert got(cache, 5) == bytes_of(key_of(5), UNIT)
    cache.close()


def test_the_order_of_use_is_recorded_after_the_lock_is_released(tmp_path, clock):
    cache = open_cache(tmp_path)
    put(cache, 1)
    with locked(database(tmp_path)):
        assert got(cache, 1)
        cache._writer.flush_touched()
        assert key_of(1) in cache._writer.touched
    clock.now_s += index.LOCKED_S
    cache._writer.flush_touched()
    assert not cache._writer.touched
    cache.close()


def test_a_command_reports_that_another_process_locks_the_index(tmp_path):
    cache = open_cache(tmp_path)
    put(cache, 1)
    with locked(database(tmp_path)):
        with pytest.raises(CacheError, match="held by another process") as caught:
            cache.admin.clear()
        assert "--cache-dir" in caught.value.hint
        with pytest.raises(CacheError, match="locked") as caught:
            open_cache(tmp_path)
        assert "another process" in caught.value.hint
    cache.close()


@pytest.mark.fault(
    area="disk",
    fault="a disk that hangs while the process ends",
    face="all",
    sees="the process ends without waiting; unwritten blocks are fetched again",
    deadline="2 s",
)
def test_close_does_not_wait_for_a_disk_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr(blockcache, "CLOSE_WAIT_S", 0.2)
    hangs, gate, write = threading.Event(), threading.Event(), blockfile.write

    def hang(*arguments) -> None:
        hangs.set()
        gate.wait(60)
        write(*arguments)

    monkeypatch.setattr(blockfile, "write", hang)
    cache = open_cache(tmp_path)
    results = PutResults()
    cache.put(key_of(1), "s3://b/k", memoryview(bytes_of(key_of(1), UNIT)), results)
    assert hangs.wait(10)
    cache.close()
    assert results.stored == []
    gate.set()
    assert results.wait(1) == [True]


def test_wrong_bytes_are_removed_while_the_index_is_locked(tmp_path):
    cache = open_cache(tmp_path)
    put(cache, 1, 2)
    assert got(cache, 1) == bytes_of(key_of(1), UNIT)
    cache._index.disconnect()
    with locked(database(tmp_path), against="writers"):
        cache.remove([key_of(1), key_of(2)])
        assert not cache.contains(key_of(1))
        assert not cache.contains(key_of(2))
    cache.close()
