"""The block cache when its index or its files fail: no wrong bytes, no lost block, no file left."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
from contextlib import closing

import diskcache
import pytest

from ego4dfs.cache import BlockCache, CacheReport, blockcache, blockfile, prepare_directory
from ego4dfs.errors import CacheError
from ego4dfs.metrics import Metrics
from kit.cache import UNIT, PutResults, block_file, bytes_of, got, key_of, open_cache, put

ID = key_of(1).partition("-")[0]


@pytest.fixture
def cache(tmp_path, metrics):
    opened = open_cache(tmp_path, metrics=metrics)
    put(opened, 1, 2, 3)
    yield opened
    opened.close()


def changed(cache_dir, statement: str) -> None:
    path = cache_dir / "v1/blocks/cache.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(statement)


def put_unstored(cache: BlockCache, number: int) -> None:
    results, key = PutResults(), key_of(number)
    cache.put(key, "s3://b/k", memoryview(bytes_of(key, UNIT)), results)
    assert results.wait(1) == [False]


def test_an_index_without_blocks_serves_the_files_and_keeps_no_new_ones(tmp_path, cache, caplog):
    changed(tmp_path, "DROP TABLE Cache")
    assert got(cache, 1) == bytes_of(key_of(1), UNIT)
    assert not cache.has_any(ID)
    assert "the cache index cannot be read" in caplog.text
    put_unstored(cache, 4)
    assert not block_file(tmp_path, 4).exists()
    cache._writer.flush_touched()
    assert not cache._writer.touched  # only those of a locked index are recorded later


def test_an_index_without_settings_serves_the_files_and_allows_no_read_ahead(tmp_path, cache):
    changed(tmp_path, "DROP TABLE Settings")
    assert got(cache, 1) == bytes_of(key_of(1), UNIT)
    assert cache.readahead.current() == (0, 0)
    for query in (cache.usage, lambda: cache.admin.max_bytes):
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            query()


def test_no_block_of_an_index_that_was_removed_counts(tmp_path, cache):
    assert cache.has_any(ID)
    (tmp_path / "v1/blocks/cache.db").unlink()
    assert not cache.has_any(ID)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_stored_limit_that_is_not_positive_is_damage(tmp_path, cache, limit):
    cache.close()
    changed(tmp_path, f"UPDATE Settings SET value = {limit} WHERE key = 'size_limit'")  # noqa: S608
    with pytest.raises(CacheError, match="limit is not positive") as caught:
        open_cache(tmp_path, None)
    assert "cache clear" in caught.value.hint


def test_an_index_of_a_version_without_our_policies_gets_lru_and_keeps_its_limit(tmp_path):
    inner = prepare_directory(tmp_path)
    (inner / "blocks").mkdir()
    old = diskcache.Cache(str(inner / "blocks"), eviction_policy="least-recently-used")
    old.reset("size_limit", 7 << 20)
    old.close()
    with closing(BlockCache(inner, Metrics())) as opened:
        assert (opened.admin.eviction, opened.admin.max_bytes) == ("lru", 7 << 20)


def test_blocks_are_removed_by_key_and_the_others_stay(tmp_path, cache, metrics):
    cache.remove([key_of(1), key_of(9)])
    assert [cache.contains(key_of(number)) for number in (1, 2, 3)] == [False, True, True]
    assert (len(cache.admin), metrics.errors) == (2, 0)
    assert not block_file(tmp_path, 1).exists()
    assert got(cache, 1) is None


def test_a_removal_with_a_reason_is_logged_and_counted(cache, metrics, caplog):
    cache.remove([key_of(1), key_of(9)], reason="is of another version")
    assert (cache.contains(key_of(1)), metrics.errors) == (False, 1)
    assert f"cached block {key_of(1)} is of another version" in caplog.text
    assert key_of(1) in metrics.last_error


def test_a_block_that_another_process_removed_is_verified_again_if_it_returns(tmp_path, cache):
    assert got(cache, 1)
    block_file(tmp_path, 1).unlink()
    cache.remove([key_of(1)])
    block_file(tmp_path, 1).write_bytes(bytes(UNIT + blockfile.TRAILER_BYTES))
    assert got(cache, 1) is None


def test_a_block_whose_file_cannot_be_removed_counts_as_absent_until_it_is_put_again(
    cache, monkeypatch
):
    def refuse(path):
        raise PermissionError(errno.EPERM, "Operation not permitted", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(blockfile, "remove", refuse)
        patched.setattr("ego4dfs.cache.index.BlockIndex.remove", lambda _index, _key: None)
        cache.remove([key_of(1)])
    assert [cache.contains(key_of(number)) for number in (1, 2)] == [False, True]
    put(cache, 1)
    assert cache.contains(key_of(1))
    assert got(cache, 1) == bytes_of(key_of(1), UNIT)


def test_the_blocks_that_could_not_be_opened_are_remembered_within_a_bound(cache, monkeypatch):
    monkeypatch.setattr(blockcache, "MAX_VERIFIED_KEYS", 2)

    def refuse(path, *_):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    with monkeypatch.context() as patched:
        patched.setattr(blockfile, "read_into", refuse)
        assert [got(cache, number) for number in (1, 2)] == [None, None]
        assert [cache.contains(key_of(number)) for number in (1, 2, 3)] == [False, False, True]
        assert got(cache, 3) is None
    assert [cache.contains(key_of(number)) for number in (1, 2, 3)] == [True, True, False]


def test_a_block_of_which_only_a_part_was_written_is_not_stored(tmp_path, cache, monkeypatch):
    writev = os.writev
    with monkeypatch.context() as patched:
        patched.setattr(os, "writev", lambda fd, buffers: writev(fd, buffers[:1]))
        put_unstored(cache, 4)
    assert not block_file(tmp_path, 4).exists()
    assert list((tmp_path / "v1/blocks/incoming").iterdir()) == []
    assert len(cache.admin) == 3


@pytest.mark.parametrize("fails_at", ["open", "writev"])
def test_a_block_that_cannot_be_written_raises_the_cause(tmp_path, monkeypatch, fails_at):
    """Its temporary file may not exist yet."""

    def fail(*_arguments: object) -> int:
        if fails_at == "writev":
            return 1  # a full disk takes a part
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, fails_at, fail)
        if fails_at == "writev":
            (tmp_path / "incoming").mkdir()
        with pytest.raises(OSError, match=r"part|space") as caught:
            blockfile.write(tmp_path / "ab/c", "abc", memoryview(b"data"))
    assert caught.value.errno == errno.ENOSPC
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_each_damaged_and_each_lost_block_is_counted(tmp_path, cache):
    put(cache, 4, 5)
    for number in (1, 2):
        os.truncate(block_file(tmp_path, number), 100)
    for number in (3, 4):
        block_file(tmp_path, number).unlink()
    assert cache.admin.verify() == CacheReport(sound=1, damaged=2, lost=2, stray=0)


def test_a_block_that_is_truncated_while_it_is_verified_is_damaged(tmp_path, cache, monkeypatch):
    cache.close()
    again = open_cache(tmp_path)
    preadv = os.preadv

    def truncate_first(fd, buffers, offset):
        os.truncate(block_file(tmp_path, 1), 100)
        return preadv(fd, buffers, offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "preadv", truncate_first)
        assert got(again, 1) is None
    assert len(again.admin) == 2
    again.close()


def test_a_block_that_another_process_evicts_before_it_is_written_leaves_no_file(
    tmp_path, cache, monkeypatch
):
    write, other = blockfile.write, open_cache(tmp_path)

    def evicted_first(*arguments) -> None:
        other.admin.clear()
        write(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(blockfile, "write", evicted_first)
        put_unstored(cache, 4)
    other.close()
    assert not block_file(tmp_path, 4).exists()
    assert cache.admin.verify().stray == 0


def test_a_limit_larger_than_the_disk_causes_a_warning(tmp_path, caplog):
    disk = os.statvfs(tmp_path)
    size = disk.f_blocks * disk.f_frsize
    with caplog.at_level(logging.WARNING):
        open_cache(tmp_path, size).close()
        assert "its disk has only" not in caplog.text
        open_cache(tmp_path, size + 1).close()
    assert "its disk has only" in caplog.text
