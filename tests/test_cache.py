"""The block cache: reads, writes, the limit, and the order of use."""

from __future__ import annotations

import sqlite3
import threading

import pytest

from ego4dfs.cache import FORMAT, BlockCache, prepare_directory
from ego4dfs.cache.blockfile import VerifiedKeys
from ego4dfs.errors import CacheError
from ego4dfs.metrics import Metrics
from kit.cache import (
    KIB,
    MIXED_SIZES,
    UNIT,
    PutResults,
    block_file,
    bytes_of,
    disk_bytes,
    got,
    key_of,
    length_of,
    open_cache,
    put,
)
from kit.own_process import started_threads
from kit.processes import wait_until

MIB = 1 << 20


@pytest.fixture
def cache(tmp_path, metrics):
    opened = open_cache(tmp_path, metrics=metrics)
    yield opened
    opened.close()


def test_a_block_that_was_put_is_read_back(cache):
    for number, length in enumerate(MIXED_SIZES):
        put(cache, number, length=length)
        assert cache.contains(key_of(number))
        assert got(cache, number, length) == bytes_of(key_of(number), length)
    assert len(cache.admin) == len(MIXED_SIZES)


def test_a_block_that_was_not_put_is_absent(cache, metrics):
    put(cache, 1)
    assert got(cache, 2) is None
    assert not cache.contains(key_of(2))
    assert metrics.errors == 0


@pytest.mark.parametrize("start", [0, 1, UNIT // 2, UNIT - 1])
def test_a_part_of_a_block_is_read_from_its_start(cache, start):
    put(cache, 1)
    part = bytearray(min(100, UNIT - start))
    assert cache.read_into(key_of(1), start, memoryview(part))
    assert part == bytes_of(key_of(1), UNIT)[start : start + len(part)]


def test_a_block_outlives_the_process(tmp_path):
    first = open_cache(tmp_path)
    put(first, 1, 2)
    first.close()
    second = open_cache(tmp_path)
    assert got(second, 1) == bytes_of(key_of(1), UNIT)
    assert len(second.admin) == 2
    second.close()


def test_closing_writes_the_queued_blocks(tmp_path):
    cache = open_cache(tmp_path)
    results = PutResults()
    for number in range(50):
        data = bytes_of(key_of(number), UNIT)
        cache.put(key_of(number), "s3://b/k", memoryview(data), results)
    cache.close()
    assert results.stored == [True] * 50
    again = open_cache(tmp_path)
    assert all(got(again, number) for number in range(50))
    again.close()


def test_a_block_below_the_limit_costs_few_statements(cache):
    put(cache, 1)
    statements, connection = [], cache._index._cache._con
    connection.set_trace_callback(statements.append)
    put(cache, 2)
    connection.set_trace_callback(None)
    assert len([one for one in statements if one.startswith("BEGIN")]) == 1
    assert len([one for one in statements if one.startswith("SELECT key FROM Cache")]) == 2


def test_a_cache_may_be_opened_before_a_fork(cache):
    """No thread runs before the first hit or put."""
    assert not cache._writer.is_started


def test_two_caches_of_one_directory_share_their_blocks(tmp_path, cache):
    other = open_cache(tmp_path)
    put(cache, 1)
    assert got(other, 1) == bytes_of(key_of(1), UNIT)
    other.close()


def test_the_same_block_put_twice_is_counted_once(cache):
    put(cache, 1, 1, 1)
    assert len(cache.admin) == 1
    assert got(cache, 1) == bytes_of(key_of(1), UNIT)


@pytest.mark.parametrize("mixed", [False, True])
def test_the_limit_holds_at_every_moment(tmp_path, metrics, mixed):
    bound = 8 * MIB
    cache = open_cache(tmp_path, bound, metrics)
    empty = disk_bytes(tmp_path) - cache.admin.used_bytes
    for number in range(400):
        put(cache, number, length=length_of(number, mixed=mixed))
        assert cache.admin.used_bytes <= bound
        if number % 20 == 0:
            assert disk_bytes(tmp_path) <= bound + MIB + max(0, empty) + log_bytes(tmp_path)
    assert metrics.evictions > 0
    assert cache.admin.used_bytes > bound / 2
    last = length_of(399, mixed=mixed)
    assert got(cache, 399, last) == bytes_of(key_of(399), last)
    cache.close()


def log_bytes(directory) -> int:
    """Return the size of SQLite's write-ahead log, which it folds back when it closes."""
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("cache.db-*"))


def test_a_batch_larger_than_the_cache_leaves_no_file_without_a_row(tmp_path):
    bound = 4 * MIB
    cache = open_cache(tmp_path, bound)
    results = PutResults()
    for number in range(64):
        data = bytes_of(key_of(number), MIB)
        cache.put(key_of(number), "s3://b/k", memoryview(data), results)
    results.wait(64)
    files = [path for path in (tmp_path / FORMAT / "blocks").glob("??/*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= bound
    assert len(files) == len(cache.admin)
    cache.close()


def test_the_least_recently_used_block_is_evicted_first(tmp_path):
    cache = open_cache(tmp_path, 2 * MIB)
    kept = range(10)
    put(cache, *range(20))
    for number in kept:
        assert got(cache, number) is not None
    cache._writer.flush_touched()
    put(cache, *range(100, 115))
    assert all(cache.contains(key_of(number)) for number in kept)
    assert sum(cache.contains(key_of(number)) for number in range(10, 20)) == 0
    cache.close()


def test_a_process_that_only_hits_records_its_use(tmp_path, monkeypatch):
    """A process that fills the cache must not evict the blocks of a mount that only hits."""
    monkeypatch.setattr("ego4dfs.cache.writer._TOUCH_EVERY_S", 0.05)
    filler = open_cache(tmp_path, 2 * MIB)
    put(filler, *range(20))
    reader = open_cache(tmp_path, None)
    recorded: set[str] = set()
    touch = reader._index.touch

    def record(keys) -> None:
        touch(keys)
        recorded.update(keys)

    monkeypatch.setattr(reader._index, "touch", record)
    for number in range(10):
        assert got(reader, number) is not None
    wait_until(lambda: len(recorded) == 10)
    put(filler, *range(100, 115))
    assert all(filler.contains(key_of(number)) for number in range(10))
    reader.close()
    with started_threads() as started:
        assert got(reader, 1) is not None
    assert started == []
    filler.close()


def test_blocks_that_were_never_read_are_evicted_in_order_of_arrival(tmp_path):
    cache = open_cache(tmp_path, 2 * MIB)
    put(cache, *range(60))
    there = [number for number in range(60) if cache.contains(key_of(number))]
    assert there == list(range(60 - len(there), 60))
    assert 10 < len(there) <= 2 * MIB // UNIT
    cache.close()


def test_a_stored_limit_is_kept_if_none_is_given(tmp_path):
    open_cache(tmp_path, 300 * MIB).close()
    cache = open_cache(tmp_path, None)
    assert cache.admin.max_bytes == 300 * MIB
    cache.close()


def test_a_new_cache_without_a_limit_takes_a_share_of_the_free_disk(tmp_path):
    cache = open_cache(tmp_path, None)
    assert 0 < cache.admin.max_bytes < 10**18
    limit = cache.admin.max_bytes
    cache.close()
    again = open_cache(tmp_path, None)
    assert again.admin.max_bytes == limit
    again.close()


def test_the_last_limit_given_holds_for_all_caches_of_the_directory(tmp_path):
    cache = open_cache(tmp_path, 64 * MIB)
    put(cache, *range(100))
    other = open_cache(tmp_path, 2 * MIB)
    assert cache.admin.max_bytes == 2 * MIB
    put(cache, 1000)
    assert cache.admin.used_bytes <= 2 * MIB
    assert got(cache, 1000) is not None
    other.close()
    cache.close()


def test_clear_drops_everything_and_the_cache_still_works(tmp_path, cache):
    put(cache, *range(5))
    assert cache.admin.clear() == 5
    assert len(cache.admin) == 0
    assert [got(cache, number) for number in range(5)] == [None] * 5
    assert not [path for path in (tmp_path / FORMAT / "blocks").glob("??/*") if path.is_file()]
    put(cache, 1)
    assert got(cache, 1) == bytes_of(key_of(1), UNIT)


def test_a_cache_cleared_by_another_process_costs_no_error(tmp_path, cache, metrics):
    put(cache, 1)
    assert got(cache, 1) is not None
    other = open_cache(tmp_path)
    other.admin.clear()
    other.close()
    assert got(cache, 1) is None
    assert metrics.errors == 0


def test_a_file_in_the_place_of_the_blocks_directory_is_an_error(tmp_path):
    inner = prepare_directory(tmp_path)
    (inner / "blocks").write_text("")
    with pytest.raises(CacheError):
        BlockCache(inner, Metrics())


def test_a_damaged_index_is_an_error_with_a_remedy(tmp_path):
    open_cache(tmp_path).close()
    (tmp_path / FORMAT / "blocks" / "cache.db").write_bytes(b"no database" * 1000)
    with pytest.raises(CacheError) as caught:
        open_cache(tmp_path)
    assert "clear" in caught.value.hint


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self):
        return open, (self._path, "w")


def test_no_value_of_the_index_is_unpickled(tmp_path):
    """A row of another program runs no code, neither by its key nor by its value."""
    import pickle

    cache = open_cache(tmp_path, 2 * MIB)
    put(cache, 1)
    burst = tmp_path / "burst"
    bomb = sqlite3.Binary(pickle.dumps(Bomb(str(burst))))
    with sqlite3.connect(tmp_path / FORMAT / "blocks" / "cache.db") as db:
        columns = "(key, raw, store_time, access_time, size, mode, value)"
        db.execute(f"INSERT INTO Cache {columns} VALUES (?, 0, 0, 0, 9, 4, ?)", (bomb, bomb))  # noqa: S608
        db.execute(f"INSERT INTO Cache {columns} VALUES (?, 1, 0, 0, 9, 4, ?)", (key_of(2), bomb))  # noqa: S608
    assert got(cache, 2) is None
    cache._index.touch([key_of(2)])
    with pytest.raises(CacheError):
        cache.admin.verify()
    put(cache, *range(2, 70))
    assert cache.admin.used_bytes <= 2 * MIB
    cache.admin.clear()
    assert not burst.exists()
    cache.close()


def test_an_eviction_during_a_read_is_not_reported_as_damage(tmp_path, cache, metrics):
    """A file that was evicted between two reads is a miss, not an error."""
    put(cache, 1)
    assert got(cache, 1) is not None
    block_file(tmp_path, 1).unlink()
    assert got(cache, 1) is None
    assert metrics.errors == 0
    put(cache, 1)
    assert got(cache, 1) == bytes_of(key_of(1), UNIT)


def test_a_block_counts_as_whole_clusters(cache):
    """A million tiny blocks take their disk, not their bytes."""
    before = cache.admin.used_bytes
    put(cache, 1, length=1)
    assert cache.admin.used_bytes - before >= 4 * KIB


def test_verified_keys_are_cleared_before_they_fill_the_memory(monkeypatch):
    monkeypatch.setattr("ego4dfs.cache.blockfile.MAX_VERIFIED_KEYS", 100)
    verified = VerifiedKeys()
    for number in range(1000):
        verified.record(key_of(number), key_of(number + 1))
        assert {key_of(number), key_of(number + 1)} <= verified
        assert len(verified) <= 100


@pytest.mark.parametrize(
    ("eviction", "blocks", "expected"),
    [("lru", 200, (8 << 10, 32 << 20)), ("none", 200, (2, 32 << 20))],
)
def test_read_ahead_is_limited_to_what_the_cache_keeps(tmp_path, eviction, blocks, expected):
    """A full cache with `--eviction none` keeps few new blocks."""
    cache = BlockCache(
        prepare_directory(tmp_path), Metrics(), max_bytes=256 << 20, eviction=eviction
    )
    put(cache, *range(blocks))
    assert cache.readahead.current() == expected
    assert {type(value) for value in cache.readahead.current()} == {int}
    cache.close()
    assert cache.readahead.current() == expected  # for a second


def test_one_query_shows_whether_any_block_of_an_object_is_cached(tmp_path):
    cache = open_cache(tmp_path)
    first, second, third = (f"{digit}" * 32 for digit in "abc")
    for key in (f"{first}-fffff", f"{second}-3.1"):
        results = PutResults()
        cache.put(key, "s3://b/k", memoryview(b"bytes"), results)
        assert results.wait(1) == [True]
    assert [cache.has_any(name) for name in (first, second, third)] == [True, True, False]
    assert not cache.has_any(first[:-1])
    (path,) = tmp_path.rglob(f"{first[2:]}-fffff")
    path.unlink()  # the row alone is no block
    assert not cache.has_any(first)
    cache.close()


def test_a_block_is_not_kept_if_no_thread_can_write_it(tmp_path, monkeypatch, caplog):
    """The process has reached its limit of threads: this is expected, and needs no traceback."""

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    cache, results = open_cache(tmp_path), PutResults()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        cache.put(key_of(1), "s3://b/k", memoryview(b"x"), results)
    assert results.wait(1) == [False]
    assert "can't start new thread" in caplog.text
    assert "Traceback" not in caplog.text
    cache.close()


def test_a_block_that_comes_after_the_close_is_refused(cache):
    """Its reader waits for the answer, and its memory is counted until then."""
    put(cache, 1)
    cache.close()
    results: list[bool] = []
    cache.put(key_of(2), "url", memoryview(b"late"), results.append)
    assert results == [False]
    assert got(cache, 1) is not None
