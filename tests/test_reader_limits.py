"""The reader at its limits: bounded memory, a disk without space, closing during a read."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ego4dfs.blocks import BLOCK_SIZE, PART_SIZE, Extent, ObjectRef
from ego4dfs.cache import blockfile
from ego4dfs.errors import StoreUnavailable
from ego4dfs.reader import Window, arrivals
from ego4dfs.reader.downloads import MAX_INFLIGHT_BYTES, MAX_SPECULATIVE_BLOCKS, MAX_UNSTORED_BLOCKS
from ego4dfs.reader.flight import Flight, Request
from ego4dfs.reader.flights import ByteBudget
from ego4dfs.reader.window import READAHEAD_STEP, SEQUENTIAL_AFTER
from ego4dfs.runtime import memory_limit
from ego4dfs.runtime.memory_limit import within_memory_limit
from kit.data import MIB
from kit.fakes import CountingStore, StallingStore
from kit.own_process import started_threads
from kit.processes import wait_until
from kit.reader import URL, read, settle


class SlowDisk:
    """Writes blocks only while `gate` is open, and counts the bytes written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = threading.Event()
        self.written = 0
        self._write = blockfile.write
        monkeypatch.setattr(blockfile, "write", self)

    def __call__(self, path, key, data) -> None:
        assert self.gate.wait(60)
        self._write(path, key, data)
        self.written += len(data)


def fetched(store: CountingStore) -> int:
    return sum(stop - start for _, start, stop in store.gets)


def test_bytes_that_wait_for_the_disk_stay_within_the_budget(make_reader, large, monkeypatch):
    disk = SlowDisk(monkeypatch)
    store = CountingStore()
    refs = [store.put(f"{URL}{i}", large[: 20 * BLOCK_SIZE]) for i in range(16)]
    reader = make_reader(store)
    peak = 0
    with ThreadPoolExecutor(16) as pool:
        reads = [pool.submit(read, reader, ref, 0, 20 * BLOCK_SIZE) for ref in refs]
        wait_until(lambda: fetched(store) > MAX_INFLIGHT_BYTES - READAHEAD_STEP)
        assert fetched(store) <= MAX_INFLIGHT_BYTES
        disk.gate.set()
        while not all(data.done() for data in reads):
            written = disk.written  # first, so that what is written meanwhile counts as waiting
            peak = max(peak, reader.downloads.memory_bytes)
            assert fetched(store) - disk.written <= MAX_INFLIGHT_BYTES + fetched(store) - written
        assert all(data.result() == large[: 20 * BLOCK_SIZE] for data in reads)
    assert 0 < peak <= MAX_INFLIGHT_BYTES
    settle(reader)
    assert reader.downloads.memory_bytes == 0


def test_a_read_larger_than_the_budget_works(make_reader, large):
    store = CountingStore()
    reader = make_reader(store)
    assert read(reader, store.put(URL, large), 0, len(large) + 1) == large
    assert len(large) > MAX_INFLIGHT_BYTES
    assert set(store.blocks_requested(BLOCK_SIZE).values()) == {1}


def refuse(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_disk_without_space_causes_no_error(make_reader, large, monkeypatch):
    monkeypatch.setattr(blockfile, "write", refuse)
    store = CountingStore()
    ref = store.put(URL, large)
    reader = make_reader(store)
    assert read(reader, ref, 0, len(large)) == large
    for at in (0, 150 * BLOCK_SIZE, 17):
        assert read(reader, ref, at, 3 * BLOCK_SIZE) == large[at : at + 3 * BLOCK_SIZE]


def test_a_disk_without_space_causes_no_second_get_of_a_block(make_reader, large, monkeypatch):
    """Read-ahead that displaced the blocks a reader needs next would request each block twice."""
    monkeypatch.setattr(blockfile, "write", refuse)
    store = CountingStore()
    first, ref = store.put(f"{URL}0", large[:10]), store.put(URL, large)
    reader, window = make_reader(store), Window()
    read(reader, first, 0, 10)
    wait_until(lambda: reader.downloads.unstored)
    for at in range(0, len(large), 262_144):
        for start in (at + 131_072, at):  # in the order in which a kernel may send its requests
            assert read(reader, ref, start, 131_072, window) == large[start : start + 131_072]
            # A slow reader: all read-ahead has arrived.
            wait_until(lambda: reader.downloads.in_flight == reader.downloads.unstored)
    requested = store.blocks_requested(BLOCK_SIZE)
    begin = SEQUENTIAL_AFTER // BLOCK_SIZE  # where it is fetched in whole blocks
    assert {count for (_, index), count in requested.items() if index >= begin} == {1}
    assert max(requested.values()) <= BLOCK_SIZE // PART_SIZE


def test_what_a_full_disk_left_in_memory_is_freed_when_blocks_are_kept_again(
    make_reader, large, monkeypatch
):
    store = CountingStore()
    first, ref = store.put(f"{URL}0", large[: 3 * BLOCK_SIZE]), store.put(URL, large)
    reader = make_reader(store)
    with monkeypatch.context() as patch:
        patch.setattr(blockfile, "write", refuse)
        read(reader, first, 0, 3 * BLOCK_SIZE)
        wait_until(lambda: reader.downloads.unstored == 3)
    ahead = range(64 * BLOCK_SIZE)
    assert reader.downloads.bound_ahead(ahead, 0) == range(16 * BLOCK_SIZE)
    read(reader, ref, 0, 3 * BLOCK_SIZE)
    settle(reader)
    assert (reader.downloads.unstored, reader.downloads.memory_bytes) == (0, 0)
    assert reader.downloads.bound_ahead(ahead, 0) == ahead


@pytest.mark.parametrize("limit_mib", [1 << 20, 256, 160, 90])
def test_a_disk_without_space_does_not_stop_many_readers(
    make_reader, large, monkeypatch, limit_mib
):
    """Also where the cgroup allows little memory: what the disk does not take is dropped."""
    monkeypatch.setattr(memory_limit, "memory_limit", lambda: limit_mib * MIB)
    monkeypatch.setattr(blockfile, "write", refuse)
    store = CountingStore()
    ref = store.put(URL, large)
    reader = make_reader(store)
    with ThreadPoolExecutor(16) as pool:
        places = [i * 11 * BLOCK_SIZE for i in range(16)]
        reads = [pool.submit(read, reader, ref, at, 11 * BLOCK_SIZE) for at in places]
        for at, data in zip(places, reads, strict=True):
            assert data.result(60) == large[at : at + 11 * BLOCK_SIZE]
    for at in range(0, 190 * BLOCK_SIZE, 2 * BLOCK_SIZE):
        assert read(reader, ref, at, 2 * BLOCK_SIZE) == large[at : at + 2 * BLOCK_SIZE]
    assert reader.downloads.memory_bytes <= within_memory_limit(MAX_INFLIGHT_BYTES)


def test_a_writer_that_cannot_start_blocks_no_reader(make_reader, large, monkeypatch):
    """The process has reached its limit of threads."""
    store = CountingStore()
    ref = store.put(URL, large)
    reader = make_reader(store)
    start = threading.Thread.start

    def refuse_the_writer(thread: threading.Thread) -> None:
        if thread.name == "cache-writer":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse_the_writer)
        with ThreadPoolExecutor(16) as pool:
            places = [i * 11 * BLOCK_SIZE for i in range(16)]
            reads = [pool.submit(read, reader, ref, at, 11 * BLOCK_SIZE) for at in places]
            for at, data in zip(places, reads, strict=True):
                assert data.result(60) == large[at : at + 11 * BLOCK_SIZE]
        assert reader.downloads.memory_bytes <= MAX_UNSTORED_BLOCKS * BLOCK_SIZE
        assert reader.downloads.unstored == MAX_UNSTORED_BLOCKS
    assert read(reader, ref, 0, 10) == large[:10]
    kept_bytes = reader.downloads.memory_bytes
    assert read(reader, ref, 180 * BLOCK_SIZE, 10) == large[180 * BLOCK_SIZE :][:10]
    wait_until(lambda: reader.downloads.memory_bytes <= kept_bytes)
    assert reader._cache._writer.is_started


def test_closing_in_the_middle_of_a_read_ends_it_with_an_error(make_reader, large):
    """Running requests complete; no other request is sent."""
    store = StallingStore()
    ref = store.put(URL, large)
    reader = make_reader(store)
    with ThreadPoolExecutor(2) as pool:
        data = pool.submit(read, reader, ref, 0, len(large))
        wait_until(lambda: len(store.gets) == 4)
        closing = pool.submit(reader.close)
        wait_until(lambda: reader.downloads.closed)
        store.gate.set()
        assert isinstance(data.exception(60), StoreUnavailable)
        closing.result(60)
    settle(reader)
    assert fetched(store) == 32 * BLOCK_SIZE
    assert reader.downloads.memory_bytes == 0


def test_closing_drops_what_is_still_in_the_queue(make_reader, large, monkeypatch):
    monkeypatch.setattr("ego4dfs.reader.fetch_pool.FETCH_THREADS", 1)
    store = StallingStore()
    refs = [store.put(f"{URL}{number}", large[:100_000]) for number in range(8)]
    reader = make_reader(store)
    assert all(reader.prefetch_small(ref) for ref in refs)
    assert store.requested.wait(10)
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(reader.close)
        wait_until(lambda: reader.downloads.closed)
        store.gate.set()
        closing.result(60)
    assert len(store.gets) == 1
    settle(reader)
    assert reader.downloads.memory_bytes == 0


def test_speculative_downloads_are_bounded(make_reader, large):
    store = StallingStore()
    refs = [
        store.put(f"{URL}{number}", large[:1000]) for number in range(3 * MAX_SPECULATIVE_BLOCKS)
    ]
    reader = make_reader(store)
    with ThreadPoolExecutor(16) as pool:
        sent = sum(pool.map(reader.prefetch_small, refs))
    assert sent == MAX_SPECULATIVE_BLOCKS
    store.gate.set()
    wait_until(lambda: reader.downloads.speculative == 0)
    assert all(
        reader.prefetch_small(ref) for ref in refs[:MAX_SPECULATIVE_BLOCKS]
    )  # there already, or fetched
    settle(reader)


def test_after_closing_no_request_is_sent_and_no_thread_is_started(make_reader, large):
    store = CountingStore()
    ref = store.put(URL, large)
    reader = make_reader(store)
    assert read(reader, ref, 0, 10) == large[:10]
    settle(reader)
    reader.close()
    with started_threads() as started:
        assert read(reader, ref, 0, 10) == large[:10]
        with pytest.raises(StoreUnavailable, match="closed"):
            read(reader, ref, BLOCK_SIZE, 10)
    assert started == []
    assert len(store.gets) == 1


def test_a_reader_may_be_made_before_a_fork(make_reader):
    """No thread runs before the first miss."""
    with started_threads() as started:
        reader = make_reader(CountingStore())
        read(reader, ObjectRef.of("memory", URL, 0, "etag"), 0, 0)
    assert started == []


def test_only_callers_that_can_wait_wait_for_the_budget():
    budget = ByteBudget(100)
    assert budget.acquire(60, wait=False)
    assert not budget.acquire(60, wait=False)
    assert budget.acquire(40, wait=False)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(budget.acquire, 10, wait=True)
        assert not waiting.done()
        budget.release(60)
        assert waiting.result(10)


def test_read_ahead_takes_no_bytes_while_a_read_waits_for_some():
    budget = ByteBudget(100)
    assert budget.acquire(60, wait=False)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(budget.acquire, 60, wait=True)
        wait_until(lambda: budget._waiting)
        assert not budget.acquire(10, wait=False)
        budget.release(60)
        assert waiting.result(10)
    assert budget.acquire(10, wait=False)


def test_a_budget_always_admits_one_request():
    budget = ByteBudget(100)
    assert budget.acquire(1000, wait=True)
    assert not budget.acquire(1, wait=False)
    budget.release(1000)
    assert budget.acquire(1, wait=False)


def test_a_reader_of_a_request_that_was_queued_for_long_waits_for_its_start():
    """Read-ahead that was not sent yet is not a failure of the store."""
    flight = Flight(Extent("key", 0, 4))
    flight._created_s -= 1000

    def expedite() -> None:
        threading.Timer(0.1, flight.complete, [memoryview(b"data")]).start()

    Request([flight]).expedite = expedite
    view = memoryview(bytearray(4))
    flight.read_into(0, view)
    assert bytes(view) == b"data"


def test_a_block_that_arrived_without_memory_is_read_again(make_reader, large, monkeypatch):
    monkeypatch.setattr(arrivals, "ANSWER_S", 0.1)
    store = CountingStore()
    ref = store.put(URL, large)
    reader = make_reader(store)
    reader.downloads._budget.acquire(MAX_INFLIGHT_BYTES, wait=True)
    reader.put(ref, 0, memoryview(large)[:BLOCK_SIZE])
    reader.downloads._budget.release(MAX_INFLIGHT_BYTES)
    assert read(reader, ref, 0, 10) == large[:10]
    settle(reader)
    assert reader.downloads.memory_bytes == 0
