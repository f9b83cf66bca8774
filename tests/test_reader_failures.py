"""Failures of requests: which are remembered, who gets them, and what the next read requests."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ego4dfs.blocks import BLOCK_SIZE, PART_SIZE
from ego4dfs.errors import StoreUnavailable
from ego4dfs.metrics import Metrics
from ego4dfs.reader import Reader, fetch_pool
from ego4dfs.store import CircuitOpen, Fetched
from kit.cache import open_cache
from kit.data import seeded
from kit.fakes import CountingStore, FailingStore, StallingStore
from kit.processes import wait_until
from kit.reader import URL, read, settle

OTHER = "s3://b/other"
DATA = seeded("failures", 2 * BLOCK_SIZE)


def failed_read(reader: Reader, ref, offset: int = 0) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as caught:
        read(reader, ref, offset, 10)
    return caught.value


@pytest.mark.parametrize(
    ("error", "limit"),
    [(StoreUnavailable, "SLOW_FAILURE_S"), (CircuitOpen, None)],
    ids=["slow", "not sent"],
)
def test_a_slow_failure_and_one_of_a_request_that_was_not_sent_hold_for_the_object(
    make_reader, monkeypatch, error, limit
):
    """The kernel repeats such a read page by page."""
    if limit:
        monkeypatch.setattr(fetch_pool, limit, 0.0)
    store = FailingStore()
    ref, other = store.put(URL, DATA), store.put(OTHER, DATA)
    reader = make_reader(store)
    store.fail(error(f"{URL}: no answer", url=URL, hint="check the network"), times=1)
    first = failed_read(reader, ref)
    again = [failed_read(reader, ref, offset) for offset in (0, BLOCK_SIZE)]
    assert [(str(e), e.url, e.hint) for e in again] == [(str(first), URL, "check the network")] * 2
    assert len({id(one) for one in (first, *again)}) == 3
    assert read(reader, other, 0, 10) == DATA[:10]
    assert [url for url, _, _ in store.gets] == [URL, OTHER]
    settle(reader)
    assert reader.downloads.memory_bytes == 0


@pytest.mark.parametrize("error", [StoreUnavailable, CircuitOpen])
def test_a_remembered_failure_is_forgotten_after_its_time(make_reader, monkeypatch, error):
    monkeypatch.setattr(fetch_pool, "SLOW_FAILURE_S", 0.0)
    monkeypatch.setattr(fetch_pool, "REMEMBERED_S", 0.0)
    monkeypatch.setattr(fetch_pool, "NOT_SENT_S", 0.0)
    store = FailingStore()
    ref = store.put(URL, DATA)
    reader = make_reader(store)
    store.fail(error("no answer"), times=1)
    failed_read(reader, ref)
    assert read(reader, ref, 0, 10) == DATA[:10]


def test_a_read_without_a_free_thread_sends_the_request_in_its_own(make_reader, monkeypatch):
    start = threading.Thread.start

    def refuse_fetches(thread: threading.Thread) -> None:
        if thread.name.startswith("fetch"):
            raise RuntimeError("can't start new thread")
        start(thread)

    store = CountingStore()
    ref = store.put(URL, DATA)
    reader = make_reader(store)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse_fetches)
        assert read(reader, ref, 0, len(DATA)) == DATA
    assert len(store.gets) == 1


def test_closing_fails_the_reads_whose_request_hangs(make_reader, monkeypatch):
    monkeypatch.setattr(fetch_pool, "CLOSE_S", 0.2)
    store = StallingStore()
    ref = store.put(URL, DATA)
    reader = make_reader(store)
    with ThreadPoolExecutor(2) as pool:
        reads = [pool.submit(read, reader, ref, place, 10) for place in (0, BLOCK_SIZE)]
        wait_until(lambda: reader._metrics.misses == 2)
        reader.close()
        for data in reads:
            assert "the filesystem is closed" in str(data.exception(60))
    store.gate.set()
    settle(reader)


class ShortenedStore(CountingStore):
    """Sends a range that is shorter than requested, or begins later, while `is_wrong`."""

    is_wrong, later, shorter = True, 0, 0

    def read_range(
        self, url: str, start: int, stop: int, *, etag: str = "", size: int | None = None
    ) -> Fetched:
        fetched = super().read_range(url, start, stop, etag=etag, size=size)
        if not self.is_wrong:
            return fetched
        shorter = fetched.data[: len(fetched.data) - self.shorter]
        return Fetched(shorter, start + self.later, fetched.facts)


@pytest.mark.parametrize(("later", "shorter"), [(0, 1), (1, 0), (1, 1)])
def test_an_answer_of_another_range_is_not_kept(make_reader, later, shorter):
    """Requests that no reader waits for are not streamed."""
    store = ShortenedStore()
    store.later, store.shorter = later, shorter
    ref = store.put(URL, DATA[:PART_SIZE])
    reader = make_reader(store)
    assert reader.prefetch_small(ref)
    settle(reader)
    assert reader.downloads.memory_bytes == 0
    store.is_wrong = False
    assert read(reader, ref, 0, PART_SIZE) == DATA[:PART_SIZE]
    assert len(store.gets) == 2


def test_a_block_that_is_in_flight_is_not_kept_twice(make_reader):
    store = StallingStore()
    ref = store.put(URL, DATA)
    reader = make_reader(store)
    with ThreadPoolExecutor(1) as pool:
        data = pool.submit(read, reader, ref, 0, 10)
        assert store.requested.wait(10)
        reader.put(ref, 0, memoryview(DATA)[:BLOCK_SIZE])
        store.gate.set()
        assert data.result(60) == DATA[:10]
    settle(reader)
    assert reader.downloads.memory_bytes == 0
    assert len(store.gets) == 1


def test_reads_are_sent_although_read_ahead_uses_all_of_its_threads(make_reader, monkeypatch):
    monkeypatch.setattr(fetch_pool, "FETCH_THREADS", 1)
    store = StallingStore()
    refs = [store.put(f"{URL}{number}", DATA[:1000]) for number in range(4)]
    reader = make_reader(store)
    assert all(reader.prefetch_small(ref) for ref in refs[:2])
    with ThreadPoolExecutor(2) as pool:
        reads = [pool.submit(read, reader, ref, 0, 10) for ref in refs[2:]]
        wait_until(lambda: len(store.gets) == 3)
        assert {url for url, _, _ in store.gets} == {refs[0].url, refs[2].url, refs[3].url}
        store.gate.set()
        assert [data.result(60) for data in reads] == [DATA[:10]] * 2
    settle(reader)


@pytest.mark.parametrize("size", [1, PART_SIZE, PART_SIZE + 1])
def test_a_size_is_confirmed_by_the_first_bytes(make_reader, size):
    store = CountingStore()
    reader = make_reader(store)
    reader.confirm_size(store.put(URL, DATA[:size]))
    settle(reader)
    reader.confirm_size(store.ref(URL))
    assert [start for _, start, _ in store.gets] == [0]


def test_an_empty_object_has_its_size_without_a_request(make_reader):
    store = CountingStore()
    make_reader(store).confirm_size(store.put(URL, b""))
    assert store.gets == []


def test_the_size_of_a_small_object_is_confirmed_by_the_request_that_is_running(make_reader):
    store = StallingStore()
    ref = store.put(URL, DATA[:PART_SIZE])
    reader = make_reader(store)
    assert reader.prefetch_small(ref)
    with ThreadPoolExecutor(1) as pool:
        confirmed = pool.submit(reader.confirm_size, ref)
        assert store.requested.wait(10)
        store.gate.set()
        assert confirmed.result(60) is None
    assert store.gets == [(URL, 0, PART_SIZE)]


def test_each_block_that_arrives_is_reported_with_its_object(tmp_path):
    store, arrived = CountingStore(), []
    ref = store.put(URL, DATA)
    cache = open_cache(tmp_path)
    reader = Reader(store, cache, Metrics(), on_arrival=lambda *facts: arrived.append(facts))
    read(reader, ref, 0, len(DATA))
    settle(reader)
    assert arrived == [(URL, len(DATA), ref.etag)] * 2
    read(reader, ref, 0, len(DATA))
    assert len(arrived) == 2
    reader.close()
    cache.close()
