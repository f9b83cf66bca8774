"""Indexes and cuts in memory: parsed once, within their limits."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import ego4dfs.media
from ego4dfs.errors import MediaError, StoreUnavailable
from ego4dfs.media import IndexBytes, MediaIndex, cut, read_index
from ego4dfs.runtime.deadline import call_within
from ego4dfs.vfs import index_cache
from ego4dfs.vfs.index_cache import IndexCache
from kit import media


class Source:
    """A video whose reads are counted."""

    def __init__(self, data: bytes) -> None:
        self.data, self.reads = data, 0
        self.parsed: list[MediaIndex] = []

    def read(self, offset: int, length: int) -> bytes:
        self.reads += 1
        return self.data[offset : offset + length]

    def index(self, cache: IndexCache, version: str):
        return cache.index(version, len(self.data), self.read, self.parsed.append)


@pytest.fixture
def source() -> Source:
    return Source(media.form("h264"))


@pytest.fixture
def cache() -> IndexCache:
    return IndexCache()


def limited(monkeypatch, *, indexes: int = 1 << 20, cuts: int = 1 << 20) -> IndexCache:
    monkeypatch.setattr(index_cache, "MAX_INDEXES_BYTES", indexes)
    monkeypatch.setattr(index_cache, "MAX_CUTS_BYTES", cuts)
    return IndexCache()


def test_an_index_is_read_once_for_each_version(cache, source):
    first = source.index(cache, "1")
    reads = source.reads
    assert source.index(cache, "1") is first
    assert source.parsed == [first]
    assert source.reads == reads
    assert source.index(cache, "2") is not first


def test_a_cut_is_made_once_and_is_that_of_the_index(cache, source):
    index = read_index(len(source.data), source.read)
    made = cache.cut("1", 1.0, 2.0, lambda: index)
    assert made == cut(index, 1, 2)
    assert cache.cut("1", 1.0, 2.0, lambda: pytest.fail("it is kept")) is made
    assert cache.cut("1", 1, 2.5, lambda: index) is not made


def test_an_error_is_kept_as_an_index_is(cache):
    bad = Source(b"no video" * 100)
    for _ in range(2):
        with pytest.raises(MediaError, match="impossible size") as caught:
            bad.index(cache, "1")
        assert caught.value.__cause__ is None
    assert bad.reads == 1


def test_an_error_of_the_store_is_not_kept(cache, source):
    def fail(_offset: int, _length: int) -> bytes:
        raise StoreUnavailable("no answer")

    with pytest.raises(StoreUnavailable):
        cache.index("1", len(source.data), fail, source.parsed.append)
    assert source.index(cache, "1")


def test_the_least_recently_used_indexes_are_dropped(monkeypatch, source):
    size = index_cache._index_bytes(read_index(len(source.data), source.read))
    cache = limited(monkeypatch, indexes=2 * size)
    for version in ("1", "2", "1", "3"):
        source.index(cache, version)
    reads = source.reads
    source.index(cache, "1")
    source.index(cache, "3")
    assert source.reads == reads
    source.index(cache, "2")
    assert source.reads > reads


def test_what_is_longer_than_the_limit_is_not_kept(monkeypatch, source):
    cache = limited(monkeypatch, indexes=10, cuts=10)
    reads = source.reads
    for _ in range(2):
        made = cache.cut("1", 1, 2, lambda: source.index(cache, "1"))
        assert len(made.header) > 10
    assert source.reads == 2 * (reads + 1)


def test_threads_that_want_one_index_get_the_same(cache, source, monkeypatch):
    parsed, parse = [], ego4dfs.media.parse_index

    def counted(found: IndexBytes) -> MediaIndex:
        parsed.append(1)
        return parse(found)

    monkeypatch.setattr(ego4dfs.media, "parse_index", counted)
    barrier = threading.Barrier(8)

    def one(_: int) -> int:
        barrier.wait()
        return id(source.index(cache, "1"))

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(one, range(8)))) == 1
    assert parsed == [1]


def test_an_index_that_another_thread_could_not_use_meanwhile_is_not_parsed_again(
    cache, source, monkeypatch
):
    parsed = []

    def unusable(found: IndexBytes) -> MediaIndex:
        parsed.append(found)
        raise MediaError("it has no video")

    def after_the_other(offset: int, length: int) -> bytes:
        with pytest.raises(MediaError):
            source.index(cache, "1")  # as another thread
        return source.read(offset, length)

    monkeypatch.setattr(ego4dfs.media, "parse_index", unusable)
    with pytest.raises(MediaError, match="it has no video"):
        cache.index("1", len(source.data), after_the_other, source.parsed.append)
    assert len(parsed) == 1
    assert source.parsed == []


def test_one_long_index_is_read_at_a_time_and_others_do_not_wait(cache, source, monkeypatch):
    """The store does not answer for the long one."""
    monkeypatch.setattr(index_cache, "LONG_READ_BYTES", 300 << 10)
    data = media.box("moov", bytes(1 << 20))
    arrived, answer = threading.Event(), threading.Event()

    def hang(offset: int, length: int) -> bytes:
        if length > 300 << 10:
            arrived.set()
            answer.wait(60)
        return data[offset : offset + length]

    with ThreadPoolExecutor(1) as pool:
        hung = pool.submit(cache.index, "hung", len(data), hang, source.parsed.append)
        arrived.wait(60)
        assert source.index(cache, "1")
        with call_within(0.05), pytest.raises(StoreUnavailable, match="long indexes"):
            Source(data).index(cache, "other")
        answer.set()
        with pytest.raises(MediaError):
            hung.result(60)
    with pytest.raises(MediaError):
        Source(data).index(cache, "other")
